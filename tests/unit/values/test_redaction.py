"""What is hidden of texts and of code, what is not, and how long that takes."""

from __future__ import annotations

import ast
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musubito.engine.commit import MAX_ERROR, error_text
from musubito.values.display import without_secrets
from musubito.values.redaction import HIDDEN, scrubbed, without_secrets_in

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
    "https://hooks.slack.com/workflows/T0HUSH12/A0HUSH34/HUSHhushHUSHhush01234567 now",
    "https://x.webhook.office.com/webhookb2/1@2/IncomingWebhook/HUSHhush0123456789abcdef/1",
    "https://maps.example/api?size=1&key=HUSHhush0123456789&v=1",
    "mysql -u root -pHUSH-0123 database",
    "sshpass -p HUSH-0123 ssh user@host",
    "docker login -u user -p HUSH-0123 registry.example",
    "machine host.example login user password HUSH-0123",
    '<add key="Password" value="HUSH-0123" />',
    "credentials:\n  apiSecret: HUSH-0123",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nHUSH\n-----END PGP PRIVATE KEY BLOCK-----",
    "Private-Lines: 2\nHUSHhush+/==\nHUSHhush0123\n",
    "the password is HUSH123, and the user is ann",
    "my api key is HUSH-0123",
]
HEX = "0123456789abcdef"
KEYS = [
    *(
        f"{start}{HEX}HUSHhush{HEX}"
        for start in (
            "glrt-", "gldt-", "glft-", "glagent-", "glsoat-", "glsa_", "glc_", "github_pat_", "xapp-1-", "r8_", "fw_",
            "lsv2_pt_", "hf_", "jina_", "e2b_", "pcsk_a_", "sbp_", "sb_secret_", "whsec_", "rubygems_", "dckr_pat_",
            "CLOJARS_", "dop_v1_", "HRKU-AA", "fo1_", "fm2_", "pscale_tkn_", "lin_api_", "ntn_", "secret_", "figd_", "shpat_",
            "sq0atp-", "NRAK-", "sntryu_", "pul-", "pnu_", "PMAK-", "phx_", "apify_api_", "vcp_", "nfp_", "rdme_", "tfp_",
            "duffel_live_", "xkeysib-", "rk_live_", "AKIA", "ABSK", "AIza", "LTAI", "AKCp", "ATATT3x", "EZAK", "ops_eyJ",
            "pypi-AgEI", "AGE-SECRET-KEY-1", "npm_", "hvs.", "hvb.", "ya29.", "dp.pt.", "dt0c01.a.", "1//0", f"EAAC{HEX}{HEX}",
        )
    ),
    f"re_HUSHhush_{HEX}HUSHhush",
    f"pa-HUSHhushHUSHhushHUSHhushHUS{HEX}",
    *(f"{start}{HEX}{HEX}" for start in ("fc-", "key-", "dapi", "SK")),
    f"{HEX}{HEX}-us12",
    f"sha256~HUSHhushHUSHhushHUSHhush{HEX}",
    f"patHUSHhush012345.{HEX}{HEX}",
    f"HUSHhush012345.atlasv1.HUSHhush{HEX}{HEX}",
    f"v1.0-{HEX}01234567-{HEX}{HEX}{HEX}{HEX}",
    f"HUS8Q~HUSHhushHUSHhush{HEX}",
    f"MHUSHhush{HEX}.HUSHhu.HUSHhush{HEX}HUSH",
    f"1234567890:AHUSHhushHUSHhush{HEX}01",
]  # fmt: skip
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
    "pk_user_account_2024_constraint and sk-learn-contrib-package-for-python",
    "hf_hub_download_with_resume_option, npm_config_registry_of_the_company",
    "re_compile_the_expression_again, secret_santa_of_the_whole_office, key-value-store-in-the-cloud-now",
    f"commit {HEX}0123, sha256:{HEX}{HEX}{HEX}{HEX}, run-{HEX}-0, price_1009",
    "call_0aB1cD2eF3gH4iJ5kL6mN7oP, toolu_010aB1cD2eF3gH4iJ5kL6mN7, chatcmpl-0aB1cD2eF3gH4iJ5kL6mN7oP8qR9s",
    f"https://example.org/articles/2024/{HEX}/a-long-title-of-an-article?page=2&sort_key=name_of_an_author",
    "machine learning with login and password fields",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_secret_in_a_text(text: str):
    assert "HUSH" not in scrubbed(text)
    assert "HUSH" not in str(without_secrets({"text": [text]}))
    assert scrubbed(scrubbed(text)) == scrubbed(text)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_a_service(key: str):
    for text in (key, f"use {key}, please", f"https://host/{key}?page=1", f"x={key}", f'{{"a":"{key}"}}'):
        assert scrubbed(text) == text.replace(key, HIDDEN)


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
    text = "x" * (MAX_ERROR - len("ValueError: ") - room) + " sk-HUSHhushHUSHhush0123 and more"
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
        "&key=",
        "a-",
        "sk-",
        "a.",
        "Private-Lines: 1\n",
        "mysql -p",
        "docker login ",
        "machine a login b ",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_it_takes_no_longer_for_texts_that_are_made_for_it(piece: str):
    text = piece * (300_000 // len(piece))
    began = time.perf_counter()
    scrubbed(text)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/tmp/test_a_file_of_another_checkout_that_counts0/notes.txt", False),
        ("tests/live-demo-of-the-pipeline2/run", False),
        ("test_4eC39HqLyjWDarjtT1zdp7dc", True),
        ("key: live_dHar4XY7LxsDOtmnkVtjNVWXLSlXsM", True),
    ],
)
def test_a_folder_that_is_named_after_a_test_is_no_key(text: str, hidden: bool) -> None:
    assert (scrubbed(text) != text) is hidden
