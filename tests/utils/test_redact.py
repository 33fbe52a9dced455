"""A known secret leaves no text in any form it takes, and a secret-sounding name hides its value."""

from __future__ import annotations

import base64
import json
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syntra.utils.redact import MARK, Redactor, is_secret_name

SECRET = 'p@ss "wörd"/+&<x>\\end'


def knowing(*values: str) -> Redactor:
    redactor = Redactor()
    for value in values:
        redactor.add(value)
    return redactor


FORMS = {
    "raw": SECRET,
    "json": json.dumps(SECRET)[1:-1],
    "json with its own characters": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "json as Go writes it": json.dumps(SECRET, ensure_ascii=False)[1:-1]
    .replace("&", "\\u0026")
    .replace("<", "\\u003c")
    .replace(">", "\\u003e"),
    "repr": repr(SECRET)[1:-1],
    "percent": urllib.parse.quote(SECRET, safe=""),
    "percent in a path": urllib.parse.quote(SECRET),
    "form": urllib.parse.quote_plus(SECRET),
    "percent in lower case": urllib.parse.quote(SECRET, safe="")
    .replace("%C3%B6", "%c3%b6")
    .replace("%2F", "%2f")
    # every escape in lower case, the letters of the value as they are
    .replace("%2B", "%2b")
    .replace("%3C", "%3c")
    .replace("%3E", "%3e")
    .replace("%5C", "%5c"),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(SECRET.encode()).decode(),
    "base64 without padding": base64.b64encode(SECRET.encode()).decode().rstrip("="),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_value_is_replaced(form: str) -> None:
    assert knowing(SECRET).clean(f"before {FORMS[form]} after") == f"before {MARK} after"


@pytest.mark.parametrize("prefix", ["", "a", "ab", "user:", "a-user:", "longer-user:"])
@pytest.mark.parametrize("suffix", ["", "x", "xy", "xyz"])
def test_a_value_inside_base64_is_replaced_at_every_alignment(prefix: str, suffix: str) -> None:
    secret = "correct-horse-battery"
    encoded = base64.b64encode(f"{prefix}{secret}{suffix}".encode()).decode()
    cleaned = knowing(secret).clean(f'{{"auth":"{encoded}"}}')
    assert MARK in cleaned
    left = cleaned.replace(MARK, "")
    # What is left beside the prefix and suffix holds at most the six bits on either side that they share.
    assert len(left) <= len('{"auth":""}') + -(-len(prefix) * 8 // 6) + -(-len(suffix) * 8 // 6) + 4


def test_several_and_overlapping_values_are_hidden_as_their_union() -> None:
    redactor = knowing("abcdefgh", "efghijkl", "second-secret")
    assert redactor.clean("1 abcdefghijkl 2 second-secret 3 abcdefgh") == f"1 {MARK} 2 {MARK} 3 {MARK}"
    assert redactor.clean("abcdefgh") == MARK
    assert redactor.clean("abcdefghsecond-secret") == MARK


def test_the_longest_of_values_with_one_beginning_is_hidden_whole() -> None:
    redactor = knowing("secret", "secret-and-more")
    assert redactor.clean("secret-and-more secret-and") == f"{MARK} {MARK}-and"


def test_short_and_blank_values_are_not_secrets() -> None:
    redactor = knowing("", "   ", "true", "12345", " 8080 ")
    assert len(redactor) == 0 and redactor.clean("true 12345 8080") == "true 12345 8080"


def test_blanks_around_a_value_do_not_matter() -> None:
    assert knowing("  file-secret\n").clean("[file-secret]") == f"[{MARK}]"


def test_the_lines_of_a_long_value_are_hidden_one_by_one() -> None:
    lines = [
        "-----BEGIN PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEF",
        "AASCBKcwggSjAgEAAoIBAQDExample",
        "-----END-----",
    ]
    redactor = knowing("\n".join(lines))
    assert redactor.clean("\n".join(lines)) == MARK
    assert redactor.clean(json.dumps("\n".join(lines))) == f'"{MARK}"'
    assert redactor.clean(f"line 2: {lines[1]}") == f"line 2: {MARK}"
    assert redactor.clean(lines[0]) == lines[0]


def test_a_value_of_many_pieces_is_hidden_whole() -> None:
    value = "".join(chr(97 + (i * 7 + i // 26) % 26) for i in range(2500))
    redactor = knowing(value)
    assert redactor.clean(f"<{value}>") == f"<{MARK}>"


def test_the_set_is_bounded_and_forgets_what_was_added_longest_ago() -> None:
    redactor = Redactor(max_values=3)
    for value in ("secret-1", "secret-2", "secret-3", "secret-1", "secret-4"):
        redactor.add(value)
    assert len(redactor) == 3
    assert redactor.clean("secret-1 secret-2 secret-3 secret-4") == f"{MARK} secret-2 {MARK} {MARK}"


def test_the_set_is_bounded_by_length_too() -> None:
    redactor = Redactor(max_chars=100)
    for index in range(20):
        redactor.add(f"{index:030d}")
    assert len(redactor) == 3
    redactor.add("x" * 101)
    assert len(redactor) == 3


def test_forgetting_everything_leaves_nothing_behind() -> None:
    redactor = Redactor(max_values=1)
    for index in range(200):
        redactor.add(f"value number {index} & {index}")
    redactor.add("last-one")
    assert set(redactor._uses) == {form for bucket in redactor._index.values() for form in bucket}
    assert len(redactor._uses) < 20
    assert redactor.clean("value number 5 & 5") == "value number 5 & 5"


def test_a_form_that_two_values_share_stays_until_both_are_forgotten() -> None:
    redactor = Redactor(max_values=2)
    redactor.add("first-line-of-two\nother-line-of-a")
    redactor.add("first-line-of-two\nother-line-of-b")
    redactor.add("something-else")
    assert redactor.clean("first-line-of-two") == MARK
    redactor.add("something-more")
    assert redactor.clean("first-line-of-two") == "first-line-of-two"


def test_it_does_not_show_its_values() -> None:
    assert "hush" not in repr(knowing("hush-hush"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://user:p@ss@db:5432/x", f"postgres://{MARK}@db:5432/x"),
        ("git clone https://ghp_abc@github.com/a/b", f"git clone https://{MARK}@github.com/a/b"),
        ("see https://example.com/a@b?c@d", "see https://example.com/a@b?c@d"),
        ("https://example.com and me@example.com", "https://example.com and me@example.com"),
        ("Authorization: Bearer abc.def-ghi", f"Authorization: Bearer {MARK}"),
        ("authorization: basic dXNlcjpwYXNz", f"authorization: basic {MARK}"),
        ("a bearer of news", "a bearer of news"),
    ],
)
def test_credentials_that_nobody_registered_are_hidden_by_their_form(text: str, expected: str) -> None:
    assert Redactor().clean(text) == expected


alphabet = st.text(st.sampled_from("abAB01 =+/%\\\"'&<é\n"), min_size=6, max_size=20)


@settings(max_examples=200)
@given(st.lists(alphabet, min_size=1, max_size=4), st.lists(alphabet, max_size=3))
def test_no_value_is_left_in_any_text(secrets: list[str], words: list[str]) -> None:
    redactor = knowing(*secrets)
    text = "".join(word + secret for word, secret in zip([*words, "", "", "", ""], secrets, strict=False))
    for part in redactor.clean(text).split(MARK):
        assert not any(len(secret.strip()) >= 6 and secret.strip() in part for secret in secrets)


@given(st.text(max_size=200))
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert knowing("\U0001f512secret-value").clean(text.replace("://", "").replace("a", "")) == text.replace(
        "://", ""
    ).replace("a", "")


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "TOKEN",
        "registry_token",
        "accessToken",
        "X-Auth-Token",
        "db_password",
        "PGPASSWORD",
        "MYSQL_PWD",
        "clientSecret",
        "secret_value",
        "Authorization",
        "api_key",
        "apiKey",
        "API-KEY",
        "private_key",
        "apikey",
        "Set-Cookie",
        "registry_auth",
        "aws_secret_access_key",
        "signing_keys",
        "passphrase",
        "credentials",
    ],
)
def test_a_name_that_says_secret_is_one(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["key", "key_path", "monkey", "tokenizer", "token_count", "service", "author", "keyboard", "", "cookies_on"]
)
def test_a_name_that_only_looks_like_it_is_not(name: str) -> None:
    assert not is_secret_name(name)


def test_a_mapping_is_cleaned_by_name_and_by_value_at_any_depth() -> None:
    cleaned = knowing("known-secret").clean_mapping(
        {
            "service": "srv_1",
            "note": "has known-secret inside",
            "api_key": "short",
            "port": 8080,
            "password": 12345678,
            "missing_token": None,
            "empty_token": "",
            "has_token": True,
            "registry": {"username": "u", "password": "p"},
            "env_vars": {"MODE": "production", "EMPTY": ""},
            "environment": "production",
            "list": ["known-secret", {"token": ["a", "b"]}, ("known-secret",)],
        }
    )
    assert cleaned == {
        "service": "srv_1",
        "note": f"has {MARK} inside",
        "api_key": MARK,
        "port": 8080,
        "password": MARK,
        "missing_token": None,
        "empty_token": "",
        "has_token": True,
        "registry": {"username": "u", "password": MARK},
        "env_vars": {"MODE": MARK, "EMPTY": ""},
        "environment": "production",
        "list": [MARK, {"token": MARK}, [MARK]],
    }


def test_a_mapping_that_holds_itself_ends() -> None:
    loop: dict[str, object] = {}
    loop["again"] = loop
    assert MARK in str(Redactor().clean_mapping(loop))
