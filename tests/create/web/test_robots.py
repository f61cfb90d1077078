"""robots.txt as RFC 9309 reads it: its own examples, the cases that readers disagree on, and any bytes at all."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarloom.create.web.robots import MAX_BYTES, Rule, Rules, comparable_path, comparable_pattern, parse_robots


def allows(text: str, path: str, product: str = "tarloom") -> bool:
    return parse_robots(text.encode(), product).allows(path)


RFC_GROUPS = """
User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


@pytest.mark.parametrize(
    ("product", "path", "allowed"),
    [
        ("tarloom", "/a.gif", False),
        ("tarloom", "/a.gif?x", True),
        ("tarloom", "/example/", False),
        ("tarloom", "/example", True),
        ("tarloom", "/publications/x.gif", True),  # 14 characters against 6
        ("FooBot", "/x", False),
        ("foobot", "/example/page.html", True),
        ("barbot", "/example/page.html", False),
        ("bazbot", "/example/page.html", False),
        ("bazbot", "/example/x.gif", True),
        ("quxbot", "/a.gif", True),
        ("tarloom", "/robots.txt", True),
    ],
)
def test_groups_as_in_the_rfc(product, path, allowed):
    assert allows(RFC_GROUPS, path, product) is allowed


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/", "/", True),
        ("/fish", "/fish", True),
        ("/fish", "/fish.html", True),
        ("/fish", "/fishheads/yummy.html", True),
        ("/fish", "/Fish.asp", False),
        ("/fish", "/catfish", False),
        ("/fish*", "/fish?id=anything", True),
        ("/fish/", "/fish", False),
        ("/*.php", "/folder/any.php.file/", True),
        ("/*.php", "/", False),
        ("/*.php", "/windows.PHP", False),
        ("/*.php$", "/filename.php", True),
        ("/*.php$", "/filename.php?x", False),
        ("/*.php$", "/filename.php5", False),
        ("/fish*.php", "/fishheads/catfish.php?p", True),
        ("/a*b*c$", "/abc", True),
        ("/a*b*c$", "/acbc", True),
        ("/a*b*c$", "/ac", False),
        ("/ab*ba$", "/aba", False),
        ("/ab*ba$", "/abba", True),
        ("/$", "/", True),
        ("/$", "/x", False),
        ("*", "/x", True),
        ("$", "/", False),
        ("/a$b", "/a$b", True),
        ("/a$b", "/a", False),
        ("/path/file-with-a-%2A.html", "/path/file-with-a-*.html", True),
        ("/path/foo-%24", "/path/foo-$", True),
        ("/foo/bar?baz=quz", "/foo/bar?baz=quz", True),
        ("/foo/bar/ツ", "/foo/bar/%E3%83%84", True),
        ("/foo/bar/%E3%83%84", "/foo/bar/%e3%83%84", True),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz", True),
        ("/foo/bar/baz", "/foo/bar/%62%61%7A", True),
        ("/a%2Fb", "/a/b", False),
        ("/a%2fb", "/a%2Fb", True),
        ("fish", "/fish", False),
        ("https://h/fish", "/fish", False),
    ],
)
def test_a_pattern_matches_a_path(pattern, path, matches):
    assert allows(f"user-agent: *\ndisallow: {pattern}", path) is not matches


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", True),
        ("user-agent: *\ndisallow:", True),
        ("disallow: /", True),  # in no group
        ("user-agent: *\nallow: /p\ndisallow: /", True),
        ("user-agent: *\ndisallow: /\nallow: /p", True),
        ("user-agent: *\ndisallow: /page\nallow: /page", True),  # as long: allow
        ("user-agent: *\nallow: /pa\ndisallow: /pag", False),
        ("user-agent: *\nallow: /page$\ndisallow: /page", True),
        ("user-agent: tarloom\nuser-agent: other\ndisallow: /", False),
        ("user-agent: tarloom\n\nuser-agent: other\n\n\ndisallow: /", False),
        ("user-agent: tarloom\nsitemap: /x\ncrawl-delay: 1\nuser-agent: other\ndisallow: /", False),
        ("user-agent: tarloom\ndisallow: /x\nuser-agent: other\ndisallow: /", True),
        ("user-agent: tarloom\nallow: /x\nuser-agent: *\ndisallow: /", True),
        (
            "user-agent: tarloom\ndisallow: /x\nuser-agent: tarloom\ndisallow: /page",
            False,
        ),  # groups of one name are one
        ("user-agent: *\ndisallow: /x\nuser-agent: *\ndisallow: /page", False),
        ("user-agent: Tarloom/2.1 (x)\ndisallow: /", False),
        ("user-agent: tarloombot\ndisallow: /", True),
        ("user-agent: tar\ndisallow: /", True),
        ("user-agent: * # all\ndisallow: / # everything", False),
        ("\ufeffUSER-AGENT:*\r\nDISALLOW:/\r\n", False),
        ("user-agent: *\rdisallow: /", False),
        ("  user-agent : *  \n\t disallow\t:\t/ ", False),
        ("user-agent *\ndisallow /", True),
        ("user-agent:\ndisallow: /", True),
        ("<html>user-agent: *</html>\n<p>disallow: /", True),
        ("user-agent: *\ndisallow: /\x00\xff", True),
    ],
)
def test_what_a_file_says_of_a_page(text, allowed):
    assert allows(text, "/page") is allowed


@pytest.mark.parametrize("padding", [MAX_BYTES - 60, MAX_BYTES - 42, MAX_BYTES - 41, MAX_BYTES - 40, MAX_BYTES])
def test_what_lies_beyond_the_limit_is_not_read_and_no_line_is_read_in_part(padding):
    text = f"user-agent: *\ndisallow: /a\n#{'#' * padding}\ndisallow: /b"
    robots = parse_robots(text.encode(), "tarloom")
    assert robots.allows("/b") is (len(text) > MAX_BYTES)
    assert robots.allows("/c")
    assert not robots.allows("/a")


LINES = st.lists(
    st.sampled_from(
        ["user-agent: *", "user-agent: tarloom", "disallow: /", "allow: /a*b$", "disallow: *%", "#", ":", "$"]
    )
    | st.text(max_size=20),
    max_size=30,
).map("\n".join)


@given(text=LINES | st.text(), path=st.text(max_size=30), product=st.text(max_size=10))
def test_any_text_says_something(text, path, product):
    data = text.encode("utf-8", "surrogatepass")
    assert parse_robots(data, product).allows("/" + path.encode("utf-8", "ignore").decode()) in (True, False)


@given(data=st.binary(max_size=500))
def test_any_bytes_say_something(data):
    assert parse_robots(data, "tarloom").allows("/x") in (True, False)


def slow_match(pattern: str, path: str) -> bool:
    """By its definition: a star takes nothing, or one more character."""
    if not pattern:
        return True
    if pattern == "$":
        return not path
    if pattern[0] == "*":
        return slow_match(pattern[1:], path) or (bool(path) and slow_match(pattern, path[1:]))
    return bool(path) and pattern[0] == path[0] and slow_match(pattern[1:], path[1:])


@given(pattern=st.text("ab*", max_size=8), end=st.sampled_from(["", "$"]), path=st.text("ab", max_size=10))
def test_patterns_match_as_they_are_defined(pattern, end, path):
    assert allows(f"user-agent: *\ndisallow: /{pattern}{end}", f"/{path}") is not slow_match(pattern + end, path)


PATTERNS = st.builds(
    "{}{}{}".format, st.sampled_from(["/", "", "*"]), st.text("ab*%$", max_size=4), st.sampled_from(["", "$"])
)


@given(rules=st.lists(st.tuples(PATTERNS, st.booleans()), max_size=12), path=st.text("ab*%$", max_size=6))
def test_rules_that_are_looked_up_say_what_the_first_in_their_order_says(rules, path):
    """As it is for reservations; robots.txt's are sorted first."""
    ordered = [Rule(pattern=comparable_pattern(pattern), allows=allows) for pattern, allows in rules]
    compared = comparable_path(f"/{path}")
    for otherwise in (True, False):
        expected = next((rule.allows for rule in ordered if rule.matches(compared)), otherwise)
        assert Rules(ordered).allow(compared, otherwise=otherwise) is expected


@given(rules=st.lists(st.tuples(PATTERNS, st.booleans()), max_size=12), path=st.text("ab*%$", max_size=6))
def test_the_longest_rule_wins_and_of_two_as_long_the_one_that_allows(rules, path):
    lines = [f"{'allow' if allows else 'disallow'}: {pattern}" for pattern, allows in rules]
    known = [Rule(pattern=comparable_pattern(pattern), allows=allows) for pattern, allows in rules if pattern]
    matching = [rule for rule in known if rule.matches(comparable_path(f"/{path}"))]
    longest = max((len(rule.pattern) for rule in matching), default=0)
    expected = any(rule.allows for rule in matching if len(rule.pattern) == longest) or not matching
    assert allows("\n".join(["user-agent: *", *lines]), f"/{path}") is expected


def test_ten_thousands_of_rules_take_no_time_for_each_page():
    lines = "".join(f"disallow: /{number}/\n" for number in range(33_000))
    robots = parse_robots(f"user-agent: *\n{lines}".encode(), "tarloom")
    started = time.process_time()
    assert not any(robots.allows(f"/{number}/x.jpg") for number in range(1000, 2000))
    assert all(robots.allows(f"/x{number}.jpg") for number in range(1000))
    assert time.process_time() - started < 2, "seconds of CPU: a hundred times what it takes"


@pytest.mark.parametrize(
    "line", ["disallow: /" + "*a" * 250_000, "disallow: /*a*b$\n" * 30_000, "user-agent: x\n" * 40_000]
)
def test_a_hostile_file_takes_no_more_than_a_moment(line):
    started = time.process_time()
    robots = parse_robots(f"user-agent: *\n{line}".encode(), "tarloom")
    robots.allows("/" + "a" * 2000)
    assert time.process_time() - started < 2, "seconds of CPU: a hundred times what it takes"
