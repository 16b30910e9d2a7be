"""The brain: an interpreter that is running already when somebody types `masu` or `masu-oci`.

    keeper (`listener`)     everything imported; forks spares, watches our files, leaves after a minute without calls
      └ spare (`call`)      waits in accept(2); then it is a call's, does it as a cold interpreter would, and ends

What a caller hands over (native/front/front.h draws it) a spare takes as its own: environment, working directory,
umask, descriptors. It serves one call, so nothing of it can leak into the next. It lends no power: it serves only whose
powers are its own (`masu.linux.powers`), and what it starts is its caller's child (`masu.linux.spawn`).
"""
