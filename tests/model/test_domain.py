"""Domains: one spelling for what people write, and nothing that could leave the rule it is put into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syntra.model.domain import is_domain, read_domain
from syntra.model.errors import InvalidField
from tests.model.samples import domains, quick


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ("example.com", "example.com"),
        ("API.Example.COM", "api.example.com"),
        ("*.example.com", "*.example.com"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("*.MÜNCHEN.example", "*.xn--mnchen-3ya.example"),
        ("faß.example", "xn--fa-hia.example"),  # IDNA 2008 keeps the letter; IDNA 2003 made it `fass`
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("ｅｘａｍｐｌｅ．ｃｏｍ", "example.com"),  # full-width letters and dot are the plain ones (UTS 46)
        ("xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("a--b.example", "a--b.example"),
    ],
)
def test_a_domain_has_one_ascii_spelling(written: str, domain: str) -> None:
    assert read_domain("domains[0]", written) == domain
    assert is_domain(domain)


@pytest.mark.parametrize(
    "written",
    [
        *("", "localhost", "*", "*.com", "a.*.example", "*.*.example", "**.example", ".example.com", "example.com."),
        *("a..example", "-a.example", "a-.example", "a_b.example", "a.example:80", "https://a.example", "a.example/x"),
        *("a b.example", "a.example\n", "\na.example", "a.example\r\n", "a\x00.example", "a.example\x7f"),
        *("a.example`) || Host(`b.example", "a`.example", "a.example`", '{{ env "HOME" }}.example', "{{.}}.example"),
        *("a.example`) || PathPrefix(`/", "$(id).example", "a.example,b.example", "ü`.example", "ü{{x}}.example"),
        *("١.example١ ", "a\u200b b.example", "\u2024.example", "é" * 64 + ".example"),
        *("a" * 64 + ".example", ("a" * 49 + ".") * 5 + "example"),
    ],
)
def test_what_is_no_domain_is_refused(written: str) -> None:
    assert not is_domain(written)
    with pytest.raises(InvalidField, match=r"^domains\[0\]: .*is not a domain name$"):
        read_domain("domains[0]", written)


@quick
@given(domains)
def test_a_domain_reads_back_as_it_was(domain: str) -> None:
    assert is_domain(domain)
    assert read_domain("", domain) == read_domain("", domain.upper()) == domain


@quick
@given(st.text(max_size=30))
def test_whatever_is_taken_is_plain_ascii(text: str) -> None:
    try:
        domain = read_domain("domains[0]", text)
    except InvalidField:
        return
    assert set(domain) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-*")
