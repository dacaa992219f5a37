"""What is hidden of texts and of code, what is not, and how long that takes."""

from __future__ import annotations

import ast
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.engine.commit import LONGEST_ERROR, error_text
from musubito.values.display import without_secrets
from musubito.values.redaction import scrubbed, without_secrets_in

TEXTS = [
    "https://user:HUSH-pw@host/path",
    "postgres://u:HUSH@db:5432/x and more",
    "https://host/p?api_key=HUSH-query&v=1",
    "401 for GET: api_key=HUSH",
    "{'X-Api-Key': 'HUSH and more', 'n': 1}",
    '{\\"api_key\\": \\"HUSH\\"}',
    "Incorrect API key provided: HUSH-key. See the docs",
    "curl -H 'Authorization: Basic HUSHhush==' x",
    "authorization: bearer HUSH-lower.case",
    "tool --password HUSH! --verbose",
    "tool --api-key=HUSHED --verbose",
    "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.HUSH-sig here",
    "-----BEGIN RSA PRIVATE KEY-----\nHUSH\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nHUSH",
    *(f"{start}HUSHhushHUSHhush0123" for start in ("gsk_", "xai-", "pplx-", "nvapi-", "tvly-", "sk-", "ghp_", "ASIA")),
    "SG.HUSHhushHUSHhush.0123456789abcdef",
    "postgresql://user:HU@SH@HUSH@host/database",
    "post to https://hooks.slack.com/services/T0HUSH12/B0HUSH34/HUSHhushHUSHhush01234567 now",
    "https://discord.com/api/webhooks/1234567890/HUSHhushHUSHhush-0123456789",
    "https://api.telegram.org/bot1234567890:HUSHhushHUSHhushHUSHhush0123456789/sendMessage",
    "https://store.example/blob?sv=2024&sig=HUSH%2Bhush%3D&se=2030",
    "https://bucket.example/key?X-Amz-Credential=HUSH&X-Amz-Signature=HUSH0123456789",
    "https://bucket.example/key?GoogleAccessId=a&X-Goog-Signature=HUSH0123456789",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=HUSHhush0123==;EndpointSuffix=x",
    "client_secret GOCSPX-HUSHhushHUSHhush0123",
    "//registry.example/:_authToken=npm_HUSHhushHUSHhushHUSHhush0123456789",
    "publish with npm_HUSHhushHUSHhushHUSHhush0123456789",
    "curl -u user:HUSH-pw https://host/path",
    "curl --user 'user:HUSH pw' https://host/path",
    "client-key-data: HUSHhush0123==",
    "the password is HUSH123, and the user is ann",
    "my api key is HUSH-0123",
]
PROSE = [
    "the token count is 5, max_tokens=500, token_count=5",
    "Password: required. Token: what a sentence is made of",
    "Basic understanding of bearer certificates: see chapter 3",
    "He signed: the key to it all, as in sort_key=name, was lost",
    "https://example.org:8080/a@b?q=1 and mailto:me@example.org",
    "session: 12:30, author: A. Uthor, tokens: [1, 2]",
    "the password is required, and a token is what a sentence is made of",
    "ls -u a:b and sort -u file",
    "the signature: def f(x) -> int, with a key=name",
    "the key is sorted, the secret is out",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text(text: str):
    assert "HUSH" not in scrubbed(text)
    assert "HUSH" not in str(without_secrets({"text": [text]}))
    assert scrubbed(scrubbed(text)) == scrubbed(text)


@pytest.mark.parametrize("text", PROSE)
def test_what_is_no_secret_stays(text: str):
    assert scrubbed(text) == text


@pytest.mark.parametrize(
    "value",
    [
        {"name": "api_token", "value": "HUSH"},
        [{"key": "DB_PASSWORD", "value": ["HUSH"]}],
        {"DB_PASS": "HUSH", "pass": "HUSH", "passcode": "HUSH", "sig": "HUSH", "session_id": "HUSH", "jwt": "HUSH"},
        ["tool", "--password", "HUSH", "-v"],
        ["DB_PASSWORD", "HUSH", "x"],
        {"sk-proj-HUSHhushHUSHhush0123": "owner", "redis://:HUSH@h": {"ghp_HUSHhushHUSHhush0123": 1}},
    ],
    ids=str,
)
def test_a_secret_in_data(value: object):
    assert "HUSH" not in str(without_secrets(value))


@pytest.mark.parametrize("room", range(0, 40, 3))
def test_a_long_error_does_not_end_in_half_a_secret(room: int):
    text = "x" * (LONGEST_ERROR - len("ValueError: ") - room) + " sk-HUSHhushHUSHhush0123 and more"
    assert "HUSH" not in error_text(ValueError(text))


def test_keys_that_are_secrets_stay_as_many():
    value = {f"sk-proj-HUSHhushHUSHhush{n}": n for n in range(3)} | {"a quite ordinary key": 3}
    assert list(without_secrets(value).values()) == [0, 1, 2, 3]


CODE = '''
    def f(x, token="HUSH", *, secret: str = "HUSH"):
        """It says api_key=HUSH."""
        os.environ["OPENAI_API_KEY"] = "HUSH"
        os.environ.setdefault("GROQ_API_KEY", "HUSH")
        password = """HUSH
        HUSH"""
        db_password = "it's HUSH"
        api_key = ("HUSH")
        token = "a" if x else "HUSH"
        user, (password, host) = "u", ("HUSH", "h")
        headers = {"Authorization": "Basic " + "HUSH", "Accept": "text"}
        dsn = "postgres://u:HUSH@h/db"
        pairs = [("Cookie", "HUSH")]
        self.client_secret: str = f"HUSH{x}"
        hidden = SecretStr("HUSH"), pydantic.SecretBytes(b"HUSH")
        if password == "HUSH":
            return call(api_key="HUSH", name="kept")
        # password = "HUSH"
        return os.environ["KEPT_API_KEY"], "ünïcode kept", {"token": f(x)}
'''


@pytest.mark.parametrize("code", [CODE, CODE.replace("\n    ", "\n")], ids=["a method", "a function"])
def test_secrets_in_code(code: str):
    told = without_secrets_in(code)
    assert "HUSH" not in told
    for kept in ('os.environ["KEPT_API_KEY"]', "ünïcode kept", 'name="kept"', '"Accept": "text"', '{"token": f(x)}'):
        assert kept in told
    ast.parse(f"if 1:\n{told}" if told.startswith("\n    ") else told)


def test_code_without_secrets_stays_as_it_is():
    text = "def f(tokens, key=None):\n    'Doc.'\n    return {'key': key, 'n': \"it's\", 'api': f'{tokens!r:>10}'}\n"
    assert without_secrets_in(text) == text


@given(st.text())
def test_any_text_can_be_scrubbed(text: str):
    scrubbed(text)
    without_secrets_in(text)


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a ",
        "-",
        "'",
        '"',
        "://",
        "a:",
        "password ",
        "password:",
        "Bearer ",
        "key=",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_it_takes_no_longer_for_texts_that_are_made_for_it(piece: str):
    text = piece * (300_000 // len(piece))
    began = time.perf_counter()
    scrubbed(text)
    assert time.perf_counter() - began < 5
