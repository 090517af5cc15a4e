"""The settings of the judge, and its key, which goes nowhere but to it."""

import logging
import traceback

import pytest
from asking import ASKED, QUICK, SECRET, ask, fails, lines
from judge_server import Raw, error, point_at

from pissa_repro.grading.judge import judge_all, keeping, summary
from pissa_repro.grading.judge.endpoint import KEY, MODEL, THREADS, TIMEOUT, URL, Patience, endpoint
from pissa_repro.runtime.errors import UserError


def test_the_key_is_sent(judge, journal, monkeypatch):
    judge.key = SECRET
    point_at(monkeypatch, judge.url, SECRET)
    ask(journal)
    assert {request.key for request in judge.requests} == {SECRET}


def test_no_other_key_is_sent_than_the_one_that_was_set(judge, journal, monkeypatch, tmp_path):
    """requests would take one from ~/.netrc."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password elsewhere\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(journal, ASKED[:1])
    point_at(monkeypatch, judge.url, SECRET)
    ask(journal, ASKED[1:2])
    assert [request.key for request in judge.requests] == [None, SECRET]


@pytest.mark.parametrize(
    "reply",
    [
        error(401, f"Incorrect API key provided: {SECRET}."), error(400, f"bad {SECRET}"),
        Raw(body=f"<html>{SECRET}".encode()), Raw(500, body=f"<html>{SECRET}".encode()),
        f"Your key is {SECRET}.", f"Your key is {SECRET}. [[6]]", Raw(302, headers={"Location": f"/?key={SECRET}"}),
        Raw(body=b'{"model": "m-%s", "choices": [{"message": {"content": "[[6]]"}}]}' % SECRET.encode()),
        Raw(body=b'{"choices": [{"message": {"content": "\\u0073%s [[6]]"}}]}' % SECRET[1:].encode()),
    ],
)  # fmt: skip
def test_the_key_goes_nowhere_but_to_the_judge(judge, journal, monkeypatch, caplog, capfd, tmp_path, reply):
    point_at(monkeypatch, judge.url, SECRET)
    judge.say = lambda prompt: reply
    text = ""
    with caplog.at_level(logging.DEBUG):
        try:
            with keeping(journal):
                judge_all(ASKED, QUICK)
                text += repr(summary())
        except UserError as error:
            text += str(error) + repr(error.__cause__) + repr(error.args)
    text += caplog.text + "".join(capfd.readouterr()) + repr(endpoint())
    text += "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file())
    assert judge.requests[0].key == SECRET
    assert SECRET not in text


@pytest.mark.parametrize("key", ["sk-01234 56789", "sk-0123456789\nsk-x", "sk-0123456789\u00e9"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(journal, monkeypatch, key):
    point_at(monkeypatch, "http://127.0.0.1:9/v1", key)
    said = fails(journal)
    assert KEY in said and "0123" not in said


def test_a_line_end_around_the_key_does_not_matter(judge, journal, monkeypatch):
    point_at(monkeypatch, judge.url + "/", f" {SECRET}\n")
    ask(journal, ASKED[:1])
    assert judge.requests[0].key == SECRET


def test_a_placeholder_for_a_key_does_not_maim_what_the_judge_says(judge, journal, monkeypatch):
    point_at(monkeypatch, judge.url, "EMPTY")
    judge.say = lambda prompt: "The answer is EMPTY. [[1]]"
    ask(journal, ASKED[:1])
    assert lines(journal)[0]["text"] == "The answer is EMPTY. [[1]]"


@pytest.mark.parametrize("missing", [URL, MODEL])
def test_no_judge(journal, monkeypatch, missing):
    point_at(monkeypatch, "http://127.0.0.1:9/v1")
    monkeypatch.setenv(missing, " ")
    said = fails(journal)
    assert all(name in said for name in (URL, MODEL, KEY))
    assert "The generations are kept" in said and "run the same command to go on" in said


@pytest.mark.parametrize(
    "url",
    ["gpt-4", "ftp://h/v1", "http://", "http:///v1", f"https://me:{SECRET}@h/v1", f"https://h/v1?key={SECRET}",
     "http://h:port/v1", "http://h:99999/v1", "http://h/v1#x", "http://[::1/v1",
     f"http://a..b/{SECRET}/v1", f"http://{'a' * 70}.x/{SECRET}/v1"],
)  # fmt: skip
def test_an_address_that_is_none(journal, monkeypatch, url):
    point_at(monkeypatch, url)
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(UserError) as caught:
        ask(journal)
    assert str(caught.value).startswith(f"{URL}: not a base address")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("word", ["0", "-1", "many", "nan", "inf", "1e9", "2.5"])
def test_threads_that_are_none(monkeypatch, word):
    monkeypatch.setenv(THREADS, word)
    with pytest.raises(UserError, match=f"{THREADS}: '{word}' is not a positive whole number"):
        Patience.from_environment()


def test_patience_of_the_environment(monkeypatch):
    monkeypatch.setenv(THREADS, "2")
    monkeypatch.setenv(TIMEOUT, "1.5")
    assert Patience.from_environment() == Patience(threads=2, timeout=1.5)
    monkeypatch.delenv(THREADS)
    monkeypatch.setenv(TIMEOUT, "")
    assert Patience.from_environment() == Patience()
    assert Patience().threads == 8
