"""Format templates: what Go's text/template does with the same text (checked by hand against docker 28's)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masu.cli import template
from masu.errors import InvalidArgument

DATA: dict[str, object] = {
    "Name": "default",
    "Ports": ["80/tcp", "443/tcp"],
    "Config": {"Labels": {"a": "1", "b": "2"}, "Env": [], "Tty": False, "Nothing": None},
    "Count": 3,
    "Share": 0.5,
    "Mounts": [{"Source": "/a", "Size": 1}, {"Source": "/b", "Size": 22}],
}


def render(source: str) -> str:
    return template.parse(source, where="--format").render(DATA)


@pytest.mark.parametrize(
    ("source", "want"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "default"),
        ("{{ .Config.Labels.a }}", "1"),
        ("{{.Config.Labels.zzz}}", "<no value>"),
        ('{{index .Config.Labels "a"}}|{{index .Config.Labels "no"}}', "1|"),
        ("{{index .Ports 1}}", "443/tcp"),
        ("{{(index .Mounts 1).Source}}", "/b"),
        ('{{index .Mounts 0 "Source"}}', "/a"),
        ("{{len .Ports}} {{len .Name}}", "2 7"),
        ("{{slice .Name 1 3}}", "ef"),
        ('{{join .Ports ", "}}', "80/tcp, 443/tcp"),
        ('{{join (split "a,b" ",") "-"}}', "a-b"),
        ('{{title "hello world"}} {{upper "x"}} {{lower "Y"}}', "Hello World X y"),
        ('[{{pad "x" 2 1}}] {{truncate "hello" 2}}', "[  x ] he"),
        ("{{json .Config}}", '{"Labels":{"a":"1","b":"2"},"Env":[],"Tty":false,"Nothing":null}'),
        ('{{json "<a>"}}', '"<a>"'),
        (
            "{{.Ports}} {{.Config.Labels}} {{.Config.Tty}} {{.Config.Nothing}}",
            "[80/tcp 443/tcp] map[a:1 b:2] false <no value>",
        ),
        ("{{range .Ports}}<{{.}}>{{end}}", "<80/tcp><443/tcp>"),
        ("{{range $i, $p := .Ports}}{{$i}}={{$p}} {{end}}", "0=80/tcp 1=443/tcp "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}{{$v}}{{end}}", "a1b2"),
        ("{{range $v := .Ports}}{{$v}};{{end}}", "80/tcp;443/tcp;"),
        ("{{range .Config.Env}}x{{else}}none{{end}}", "none"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .Mounts}}{{.Source}}{{$.Name}} {{end}}", "/adefault /bdefault "),
        ("{{range 5}}{{if eq . 1}}{{continue}}{{end}}{{if eq . 3}}{{break}}{{end}}{{.}}{{end}}", "02"),
        ("{{if .Config.Tty}}y{{else}}n{{end}}", "n"),
        ("{{if eq .Count 1}}a{{else if eq .Count 3}}b{{else}}c{{end}}", "b"),
        ("{{with .Name}}{{.}}{{else}}no{{end}}", "default"),
        ("{{with .Config.Env}}{{.}}{{else}}no{{end}}", "no"),
        ("{{with $x := .Count}}{{$x}}{{end}}", "3"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        (
            '{{eq 1 2}} {{ne "a" "b"}} {{and 1 0}} {{or 0 "x"}} {{not 1}} {{lt 1 2}} {{ge "b" "a"}}',
            "false true 0 x false true true",
        ),
        ("{{eq .Count 1 2 3}}", "true"),
        ("{{and .Name (eq .Count 3)}}", "true"),
        ("{{and false (index .Ports 9)}}", "false"),
        ('{{print 1 2 "a" "b" 3}}', "1 2ab3"),
        ("{{println 1 2}}x", "1 2\nx"),
        ('{{printf "%5s|%-5s|%05d|%q|%v|%x|%.2f" "a" "b" 7 "c" true 255 1.5}}', '    a|b    |00007|"c"|true|ff|1.50'),
        ('{{printf "%d" "x"}} {{printf "%s" 3}} {{printf "%d"}}', "%!d(string=x) %!s(int=3) %!d(MISSING)"),
        ('{{.Name | printf "%s-%s" "a"}}', "a-default"),
        ("{{.Name | upper | lower | len}}", "7"),
        ('{{"a\\tb\\u00e9"}} {{`raw\\n`}}', "a\tbé raw\\n"),
        ("{{'a'}} {{1.5}} {{0x10}} {{-3}}", "97 1.5 16 -3"),
        ('a {{- " b " -}} c', "a b c"),
        ("x {{/* words */}}y{{- /* more */ -}} z", "x yz"),
        ('{{html "<a>"}} {{urlquery "a b"}}', "&lt;a&gt; a+b"),
    ],
)
def test_renders_as_go(source: str, want: str) -> None:
    assert render(source) == want


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "{{.Vanished}}",
            ["line 1, column 3: can't evaluate field Vanished", "fields: Config, Count", "--format: format template"],
        ),
        ("{{.Nam}}", ['did you mean "Name"?']),
        ("{{.Nmae}}", ['did you mean "Name"?']),
        ("{{.Name.foo}}", ["column 8", "can't evaluate field foo in string default"]),
        ("a\nb {{frob 1}}", ['line 2, column 5: function "frob" not defined']),
        ("{{upper}}", ["wrong number of args for upper: want 1 got 0"]),
        ("{{Name}}", ['function "Name" not defined', "for a field write .Name"]),
        ("{{uper .Name}}", ['did you mean "upper"?']),
        ("{{.Name", ["unclosed action"]),
        ("{{if}}x{{end}}", ["missing value for if"]),
        ("{{if .Name}}x", ["unexpected end of template, want {{end}}"]),
        ("{{end}}", ["unexpected {{end}}"]),
        ("{{else}}", ["unexpected {{else}}"]),
        ("{{break}}", ["{{break}} outside {{range}}"]),
        ("{{$x}}", ['undefined variable "$x"']),
        ("{{range .Name}}{{end}}", ["range can't iterate over default"]),
        ("{{1 2}}", ['unexpected operand after "1"']),
        ("{{.Name 1}}", ["can't give argument to non-function"]),
        ("{{index .Ports 9}}", ["error calling index: index out of range: 9"]),
        ("{{eq 1 `a`}}", ["incompatible types for comparison"]),
        ('{{"abc}}', ["unterminated quoted string"]),
        ("{{/* x }}", ["unclosed comment"]),
        ("{{.Name}", ["column 8", "unexpected '}' in action"]),
        ("{{define `x`}}", ["define is not supported"]),
        ("{{.Name | }}", ["missing value"]),
        ("{{(.Name}}", ['unexpected "}}" in parenthesized pipeline']),
        ("{{range 9999999}}{{end}}", ["too long"]),
        ('{{printf "%99999d" 1}}', ["width or precision too large"]),
    ],
)
def test_errors_say_where(source: str, words: list[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        render(source)
    for word in words:
        assert word in str(caught.value)


def test_nesting_and_loops_are_bounded() -> None:
    with pytest.raises(InvalidArgument, match="nested deeper"):
        render("{{if 1}}" * 200 + "{{end}}" * 200)
    with pytest.raises(InvalidArgument, match="nested deeper"):
        render("{{" + "(" * 500 + "1" + ")" * 500 + "}}")
    with pytest.raises(InvalidArgument, match="steps"):
        render("{{range 100000}}{{range 100000}}x{{end}}{{end}}")


@given(st.text(alphabet="{}.$|()\"`'-/* \nNameifendrgl=:,0123", max_size=40))
def test_any_text_renders_or_is_refused(source: str) -> None:
    try:
        render(source)
    except InvalidArgument:
        return


@given(st.text(max_size=40).filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(source: str) -> None:
    assert render(source) == source
