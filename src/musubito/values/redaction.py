"""Hide secrets in what is shown: by their names and by their looks, in data, in texts and in code.

Nothing here is certain. Where there is a name, the name decides. In running text, where words like "token" are
ordinary, a text is hidden only if it also looks like no word. Every pattern looks at each place of a text a bounded
number of times. Patterns that few texts need are compiled when the first such text comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Final

from musubito.deferred import deferred_pattern
from musubito.parsing import Literal, literals_in
from musubito.values.class_names import SECRET_CLASSES

MAX_NAMES: Final = 4096
"""Names that are kept, each with whether it is a secret's."""
MAX_TEXTS: Final = 4096
"""Texts that are kept, each without the secrets in it."""
MAX_KEPT: Final = 8192
"""Characters of the longest text that is kept."""
HIDDEN: Final = "**********"
"""Stands in place of a secret."""
SECRETS: Final = re.compile(
    r"passw(?:or)?d|passphrase|credential|authorization"
    r"|\b(?:pwd|pass|passcode|auth|bearer|cookies?|secrets?|token|jwt|sig|session ?id|apikeys?|auth tokens?)\b"
    r"|\b(?:api|access|secret|private|signing|encryption|master|openai|anthropic) ?keys?\b"
    r"|\b(?:amz|goog) (?:signature|credential)\b"
)
"""Matches a secret's name whose words are separated by blanks.

The name of a count of tokens, or of a key to sort by, does not match.
"""
_RUN: Final = re.compile(r"[A-Za-z0-9_.~+/:=-]{17,}")
"""Matches a run of characters that is long enough for a key: only in such runs is a key looked for."""
_KEYS: Final = deferred_pattern(
    r"\b(?:"
    # the name of a service, and at least 16 characters; a name that is a word begins other texts, too
    r"(?:gh[opsur]|github_pat|gl(?:pat|rt|dt|cbt|ptt|ft|agent|soat|imt|oas|ffct|sa)|xox[abeprs]|xapp|r8|lsv2|pplx|nvapi|tvly"
    r"|e2b|pcsk|sbp|whsec|rubygems|dckr_pat|CLOJARS|do[opr]_v1|HRKU|fo1|fm2|fm1[ar]|pscale_(?:tkn|oauth|pw)|lin_(?:api|oauth)"
    r"|ntn|figd|shp(?:at|ca|pa|ss)|shippo_(?:live|test)|sq0(?:atp|csp)|NR(?:AK|JS|II)|sntry[su]|pnu|PMAK|ph[cx]|apify_api"
    r"|nfp|rdme|duffel_(?:live|test)|tfp|xkeysib|sm_[aps]at|fio-u|dnkey|bedrock-api-key|FLWSECK"
    r"|(?P<word>[spr]k|hf|gsk|xai|fw|jina|sb_secret|secret|pul|glc|npm|vc[apkir]|tk-us"
    # A function or a folder is called `test_a_long_name1`: after these two, the key is one piece.
    r"|(?:live|test)(?=[-_][A-Za-z0-9]+(?![\w/-]))))[-_][\w+/-]{16,}"
    # the same without a sign between the two
    r"|(?:AKIA|ASIA|ABIA|ACCA|A3T|AIza|GOCSPX-|LTAI|ABSK|AKCp|ATATT3|EZ[AT]K|AQVN|ops_eyJ|pypi-AgE|AGE-SECRET-KEY-1)"
    r"[\w+/=-]{16,}"
    r"|(?:hv[bs]|ya29|dp\.(?:pt|st|ct|sa|scim|audit)|dt0[cs]\d\d)\.[\w.-]{16,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}"
    # a form of its own
    r"|1//0[\w-]{30,}|re_[A-Za-z0-9]{6,12}_[A-Za-z0-9]{24,}|pa-[A-Za-z0-9][\w-]{42}\b|(?:fc|key)-[0-9a-f]{32}"
    r"|EAA[A-Za-z0-9]{60,}|(?:dapi|SK)[0-9a-f]{32}|[0-9a-f]{32}-us\d{1,2}|sha256~[\w-]{40,}|pat[A-Za-z0-9]{14}\.[0-9a-f]{32,}"
    r"|[A-Za-z0-9]{14}\.atlasv1\.[\w-]{32,}|v1\.0-[0-9a-f]{24}-[0-9a-f]{64,}|[\w~.-]{3}\dQ~[\w~.-]{31,34}"
    r"|[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}|\d{8,10}:A[\w-]{33,34}"
    r")"
)
"""Matches the key of a service by how such keys begin. If `word` matches too, the rest must look like no words."""
_RANDOM: Final = deferred_pattern(r"(?<![A-Za-z0-9])(?=[A-Za-z0-9]{6})[A-Za-z]{0,200}(?:\d|[a-z][A-Z])|[A-Za-z]{18}")
"""Matches in a text that is no sequence of words.

One piece of it has digits, or capitals after small letters, or more letters than a word.
"""
_LOOKS: Final[Mapping[str, str]] = {
    "AccountKey=": r"(?<=\bAccountKey=)[\w+/=]{12,}",
    "client-key-data: ": r"(?<=\bclient-key-data: )[\w+/=]{12,}",
    "hooks.slack.com/": r"(?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/-]{16,}",
    "/IncomingWebhook/": r"(?<=/IncomingWebhook/)[\w/-]{16,}",
    "/api/webhooks/": r"(?<=/api/webhooks/)\d{6,}/[\w-]{16,}",
    "/bot": r"(?<=/bot)\d{6,}:[\w-]{16,}",
    "key=": r"(?<=[?&]key=)[\w~.-]{16,}",
    "eyJ": r"\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*",
    "Bearer ": r"\bBearer [\w.~+/=-]{12,}",
    "PRIVATE KEY": r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[^-]{0,20000}-----END [A-Z ]{0,30}-----|[^-]{0,20000})",
    "Private-Lines: ": r"(?<=\bPrivate-Lines: )\d{1,3}\s{1,2}(?:[\w+/=]{1,80}\s{1,2}){0,200}[\w+/=]{1,80}",
}
"""Match secrets by their looks and by what stands before them. Each has a mark, which is fast to look for."""
_IN_URL: Final = re.compile(r"""(://[^\s/@:"'<>]{0,100}:)[^\s/"'<>]{1,300}(?=@)""")
"""Matches the password in a URL."""
_SCHEME: Final = (
    r"""(?i)((?<![A-Za-z])authorization\\{0,3}["']?\s{0,3}[:=]\s{0,3}\\{0,3}["']?(?:basic|bearer|token|digest|apikey)\s{1,3}"""
    r"""|(?<![A-Za-z])bearer\s{1,3}(?=[\w.~+/=-]{0,200}[\d._~+/=-]))[\w.~+/=:-]{6,}"""
)
"""Matches the credentials after a scheme of authorization."""
_USER: Final = deferred_pattern(
    r"""(?<![\w-])((?:-u|--user)[ =]["']?[^\s:'"]{1,64}:)([^\s"']{3,}|[^"'\n]{3,}(?=["']))"""
)
"""Matches the password after a user's name, in an option of a command."""
_PASSED: Final = (
    r"(?i)(\b(?:mysql(?:dump|admin)?\b[^\n|;]{0,200} -p|sshpass -p ?|docker login\b[^\n|;]{0,200} -p )"
    r"|\bmachine \S{1,200}\s{1,9}login \S{1,64}\s{1,9}password\s{1,9}"
    r"""|(?:key|name)=["'][\w-]{0,40}password["']\s{1,9}value=["'])[^\s"']{3,}"""
)
"""Matches the password in the options of some commands, in a `.netrc`, and in the attributes of an XML element."""
_OPTION: Final = deferred_pattern(
    r"""(?<![\w-])--?(?P<name>[A-Za-z][\w-]{1,40})(?P<gap>[ =])(?P<value>[^\s"'-][^\s"']{2,})"""
)
"""Matches an option of a command and its value."""
_SAID: Final = deferred_pattern(
    r"""(?:pass|pwd|secret|token|key|auth|cookie|credential|jwt|sig|session|bearer)"""
    r"""(?:[\w-]{0,40}\\{0,3}["']?\s{0,3}(?P<sign>[:=])|(?P<told>(?: \w{1,12}){1,2}: |\w{0,8} is ))\s{0,3}\\{0,3}"""
)
"""Matches, in lower case, the end of a name that may be a secret's, up to where the value begins."""
_VALUE: Final = deferred_pattern(r""""[^"\n]{1,2000}"|'[^'\n]{1,2000}'|[^\s"'&,;(){}\[\]<>]{3,}""")
"""Matches a value: a text in quotes, or a word."""
_NAME: Final = deferred_pattern(r"[\w-]{1,80}:")
"""Matches a name of YAML, whose value is further down."""
_BOUND: Final = re.compile(
    r"""(?<![\w-])(?P<name>[\w-]{1,80})"""
    r"""(?P<between>["']?\s{0,9}(?::[\w.| ]{0,80}(?:\[[^]=\n]{0,80}\][\w.| ]{0,80}){0,9}=|[:=])\s{0,9}[rbuf]{0,2})"""
    r"""(?P<text>"[^"\n]+"|'[^'\n]+')"""
)
"""Matches code that binds a text to a name, if the code is no whole statement."""
_WORD: Final = deferred_pattern(r"[a-z]+|[A-Z][a-z]*|[A-Z]+|\d{1,3}")
"""Matches a word, or a number of up to three digits."""
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
"""The letters of ASCII."""
_LOWER: Final = str.maketrans(_LETTERS.upper(), _LETTERS)
"""The table that makes the letters of ASCII lower case."""
_IN_NAMES: Final = f"{_LETTERS}{_LETTERS.upper()}0123456789_-"
"""The characters of names."""


@lru_cache(MAX_NAMES)
def is_secret(name: str) -> bool:
    """Return whether a name is that of a secret, as far as a name can tell: `api_key`, `dbPassword`, `access-token`."""
    words = re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)).lower()
    return SECRETS.search(words) is not None


def scrubbed(text: str) -> str:
    """Return a text with `HIDDEN` in place of what looks like a secret or is named as one.

    Examples: the password in a URL, `api_key=...`, `"token": "..."`, `--password ...`.
    """
    if len(text) < 8:
        return text
    return _scrubbed_again(text) if len(text) <= MAX_KEPT else _scrubbed(text)


def _scrubbed(text: str) -> str:
    text = _without_keys(text)
    if " -p" in text or "assword" in text:
        text = re.sub(_PASSED, rf"\1{HIDDEN}", text)
    if "-" in text:
        if "-u" in text:
            text = _USER.sub(rf"\1{HIDDEN}", text)
        text = _OPTION.sub(_of_option, text)
    # This text is as long as the original, which `lower` does not ensure.
    low = text.translate(_LOWER)
    if "authorization" in low or "bearer" in low:
        text = re.sub(_SCHEME, rf"\1{HIDDEN}", text)
        low = text.translate(_LOWER)
    return _without_named(text, low)


_scrubbed_again: Final = lru_cache(MAX_TEXTS)(_scrubbed)
"""The same, for texts that may come again: each step of a conversation is given all of its messages."""


def _without_keys(text: str) -> str:
    text = _RUN.sub(_without_keys_in, _IN_URL.sub(rf"\1{HIDDEN}", text))
    for mark, pattern in _LOOKS.items():
        if mark in text:
            text = re.sub(pattern, HIDDEN, text)
    return text


def _without_keys_in(run: re.Match[str]) -> str:
    return _KEYS.sub(lambda key: key[0] if key["word"] and not _RANDOM.search(key[0]) else HIDDEN, run[0])


def _of_option(match: re.Match[str]) -> str:
    return f"{match[0][: match.start('value') - match.start()]}{HIDDEN}" if is_secret(match["name"]) else match[0]


def _without_named(text: str, low: str) -> str:
    pieces, at = [], 0
    for match in _SAID.finditer(low):
        before = text[max(0, match.start() - 60) : match.start()]
        start = match.start() - len(before) + len(before.rstrip(_IN_NAMES))
        if match["told"] and low.startswith("api ", max(0, start - 4)):
            start -= 4
        if start < at or not is_secret(text[start : match.end()]):
            continue
        value = _VALUE.match(text, match.end())
        if value is None or HIDDEN in value[0] or _NAME.fullmatch(value[0]):
            continue
        quote = value[0][0] if value[0][0] in "\"'" else ""
        # "Password: required" is a sentence, "token_count=5" a number.
        plain = value[0].isdigit() if match["sign"] == "=" else _WORD.fullmatch(value[0].rstrip(".!?:"))
        if not quote and plain:
            continue
        pieces += [text[at : match.end()], quote, HIDDEN, quote]
        at = value.end()
    return "".join((*pieces, text[at:]))


# -- code --------------------------------------------------------------------------------------------------------------
def without_secrets_in(code: str) -> str:
    """Return the code with `HIDDEN` in place of texts that are bound to names of secrets, or look like keys.

    A text that is no code is cleaned as any other text.
    """
    return _cleaned_again(code) if len(code) <= MAX_KEPT else _cleaned(code)


def _cleaned(code: str) -> str:
    texts = literals_in(code)
    if texts is None:
        return _without_bound(scrubbed(code))
    hidden = {text.start: text for text in texts if is_secret(text.name) or text.called in SECRET_CLASSES}
    secrets: list[tuple[Literal, str | None]] = [(text, None) for text in hidden.values()]
    secrets += [(text, text.value) for text in texts if text.value is not None and text.start not in hidden]
    return _without_keys(_without_bound(_rewritten(code, secrets)))


_cleaned_again: Final = lru_cache(MAX_TEXTS)(_cleaned)
"""The same, for code that comes again: each new database is given the code of all its steps."""


def _rewritten(code: str, secrets: list[tuple[Literal, str | None]]) -> str:
    """Return the code with these constants replaced, from the end to the beginning."""
    lines = [line.encode("utf-8", "surrogatepass") for line in code.splitlines(keepends=True)]
    starts, whole = list(accumulate(map(len, lines), initial=0)), b"".join(lines)
    pieces: list[bytes] = []
    done = len(whole)
    for literal, text in sorted(secrets, key=lambda each: each[0].start, reverse=True):
        (first, column), (last, last_column) = literal.start, literal.end
        if not 0 <= first <= last < len(lines):
            continue
        start, end = starts[first] + column, starts[last] + last_column
        if end > done:
            continue  # a part of a text that was replaced already
        segment = whole[start:end].decode("utf-8", "surrogatepass")
        quote = segment[-1:] if segment[-1:] in ("'", '"') else '"'
        replacement = (
            f"{quote}{HIDDEN}{quote}" if text is None else scrubbed(segment) if scrubbed(text) != text else segment
        )
        pieces += [whole[end:done], replacement.encode("utf-8", "surrogatepass")]
        done = start
    return b"".join((whole[:done], *reversed(pieces))).decode("utf-8", "surrogatepass")


def _without_bound(code: str) -> str:
    def masked(match: re.Match[str]) -> str:
        text = match["text"]
        if not is_secret(match["name"]) or HIDDEN in text:
            return match[0]
        return f"{match['name']}{match['between']}{text[0]}{HIDDEN}{text[0]}"

    return _BOUND.sub(masked, code)
