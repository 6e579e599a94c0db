"""Coverage-guided search for a body, or a split of one, that the extractor reads otherwise than the reference does.

`make fuzz TIME=60` runs it for as many seconds, on from where the last run ended, and prints how many inputs it tried.
A difference ends it with a traceback that shows the pieces: they belong into `tests/api/test_extract_pieces.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent / "api"))

with atheris.instrument_imports(include=["nebula_async.api", "reference"]):
    from reference import in_pieces_of, read_parsed, read_pieces, read_whole, result, split

PLACES = 8
MOST_BYTES = 2048
DEEPEST = 200
"""Python's own limit depends on how deep the caller is already."""

WORDS = [
    b'"b64_json":"', b'"b64\\u005fjson" : "', b'{"data":[{"image_b64":"', b'"image_file":', b"data:image/png;base64,",
    b"QUJD", b"QUI=", b"QQ==", b"QR==", b"-_-_", b"+/+/", b"\\n", b"\\r\\n", b"\\/", b"\\u002b", b"\\u000A", b"\\\\",
    b'\\"', b"\\u", b"\\ud83d\\ude00", b'"}', b'"}]}', b'":', b'","', b"\xef\xbb\xbf", b"null", b"NaN", b"1e999",
]  # fmt: skip

SEEDS = [
    b'{"data": [{"index": 0, "b64_json": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"}], "message": "\\"b64_json\\":\\"QUJD\\""}',
    b'\xef\xbb\xbf{"data":{"image_file" :\n"data:image\\/png;base64,QU\\nJD\\/\\u002b-_"},"image_b64":null}',
    b'[{"b64\\u005fjson":"QUJD=","b64_json":"QQ"},{"image_b64":"","b64_json":["QUJD"]},"b64_json"]',
]


def compare(data: bytes) -> None:
    """Read a body in the pieces that the first bytes say, in single bytes and whole, and by the reference."""
    places, body = list(data[:PLACES]), data[PLACES:]
    if body.count(b"[") + body.count(b"{") > DEEPEST:
        return
    expected = result(read_whole, body)
    parsed = result(read_parsed, body)
    if parsed != "refused" and parsed != expected:
        raise AssertionError(f"the references differ: {body!r}")
    places = [place * len(body) // 255 for place in places]
    for pieces in (split(body, places), in_pieces_of(1, body), [body]):
        found = result(read_pieces, pieces)
        if found != expected:
            raise AssertionError(f"{pieces!r}\nread as {found}\ninstead of {expected}")


def main() -> None:
    """Search from a few bodies and the words that bodies are made of; what was worth keeping stays in the folder."""
    folder, *options = sys.argv[1:]
    corpus, words = Path(folder, "corpus"), Path(folder, "words")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(bytes(range(0, 256, 32)) + seed)
    words.write_text("".join(f'"{quoted(word)}"\n' for word in WORDS))
    fixed = [f"-dict={words}", f"-max_len={MOST_BYTES}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(corpus), *fixed, *options], compare)
    atheris.Fuzz()


def quoted(word: bytes) -> str:
    """Return a word as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{letter:02x}" for letter in word)


if __name__ == "__main__":
    main()
