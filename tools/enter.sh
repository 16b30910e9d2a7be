# Sourced by ./masu and ./masu-oci with $here (the checkout) set: leaves the interpreter in $python, having built and
# installed what was missing. Costs a dozen stat calls when nothing is. Only shell builtins on that way: the caller
# may be a container engine with no PATH.
#
# build/ready is written last by tools/prepare: its time is when that build began, its line the interpreter.
fresh() {
  for made in "$here/src/masu/linux/_sys.abi3.so" "$here/src/masu/libexec/masu-launch" "$here/src/masu/libexec/masu-python"; do
    [ -e "$made" ] || return 1
  done
  for source in "$here"/native/*.[ch] "$here"/native/*/*.[ch] "$here"/meson*.* \
    "$here"/native/meson.build "$here"/native/*/meson.build "$here/pyproject.toml" "$here/tools/prepare"; do
    if [ "$source" -nt "$here/build/ready" ]; then return 1; fi
  done
  IFS= read -r python < "$here/build/ready" && [ -x "$python" ]
} 2>/dev/null

# tools/prepare, having waited for another one, wants only the question.
[ "${only_ask:-}" = "$$" ] ||
  fresh || { "$here/tools/prepare" run < /dev/null >&2 && IFS= read -r python < "$here/build/ready"; } || exit 125
