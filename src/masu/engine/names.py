"""Names and ids for containers: `brisk_heron`, sixty-four hex digits."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ADJECTIVES = """
amber ample apt azure balmy bold bonny brave breezy bright brisk calm candid cheery chipper civil clear clever coral
cosy crisp curly dapper daring deft dewy eager early earnest easy exact fabled fair fern festive fluent fond frank
fresh frosty gentle glad golden grand hale handy happy hardy hearty hidden honest hushed humble ivory jade jolly
jovial keen kind lasting lively loyal lucid lucky lunar mellow merry mighty mild misty modest nimble noble opal open
patient peppy placid plain plucky polite prime proud quick quiet rapid rosy royal ruby rustic sage scenic serene
silent silky silver simple sleek smooth snug solid spry stable steady still stout sturdy subtle sunny sweet swift
tame tawny tender tidy tranquil trim true upbeat valiant velvet vivid warm wise witty zesty
"""
_NOUNS = """
acorn alder anchor anvil apple arch aspen barley barrel basin beacon birch bobbin bridge brook cedar chisel cliff
clover comet compass copper cove crane creek daisy delta dove drum dune easel elm ember falcon fern ferry field
finch fjord flint forge fox garnet glade glen grove gull harbor hare harp hazel heath heron hill inlet iris island
ivy jay kettle kiln kite lagoon lantern lark laurel ledge linden lotus lynx maple marsh meadow mill moss otter owl
paddle pebble pier pine plover pond poppy prairie quail quarry quartz raft rapids raven reed ridge river robin sail
sable sedge shore sparrow spring spruce stone stork stream summit swan teal thistle tide timber trail tulip valley
vessel violet walnut warbler wharf wheat willow wren yarrow
"""


def new_id() -> str:
    """Sixty-four hex digits of the kernel's randomness; never all digits in the short form, or it could be a number."""
    while True:
        id = os.urandom(32).hex()
        if not id[:12].isdigit():
            return id


def random_name(taken: Callable[[str], bool]) -> str:
    """A free name of two words; after many collisions with digits at the end."""
    adjectives, nouns = _ADJECTIVES.split(), _NOUNS.split()
    for attempt in range(64):
        draw = int.from_bytes(os.urandom(8), "little")
        draw, first = divmod(draw, len(adjectives))
        draw, second = divmod(draw, len(nouns))
        name = f"{adjectives[first]}_{nouns[second]}"
        if attempt > 4:
            name += str(draw % 10 ** (attempt // 5))
        if not taken(name):
            return name
    return "c" + new_id()[:16]
