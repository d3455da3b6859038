"""Files of votes: formats, what is counted, and bad rows by file, row and column."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data import answer_style, vote_table
from recjax.data.vote_table import BOTH_BAD, LEFT, RIGHT, TIE, Columns
from recjax.errors import DataError

ROWS = [
  {"model_a": "p", "model_b": "q", "winner": "model_a", "user": "u2", "words_a": 10, "words_b": 5},
  {"model_a": "q", "model_b": "r", "winner": "tie", "user": "u1", "words_a": 0, "words_b": 2.5},
  {"model_a": "r", "model_b": "p", "winner": None, "user": "u1", "words_a": 1, "words_b": 1},
  {"model_a": "q", "model_b": "p", "winner": "tie (bothbad)", "user": "u2", "words_a": 1, "words_b": 1},
  {"model_a": "q", "model_b": "p", "winner": "model_b", "user": "u2", "words_a": 1, "words_b": 1},
]


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def assert_known(table):
  assert table.models == ("p", "q", "r") and table.without_vote == 1 and table.boards == ("",)
  np.testing.assert_array_equal(table.a, [0, 1, 1, 1])
  np.testing.assert_array_equal(table.b, [1, 2, 0, 0])
  np.testing.assert_array_equal(table.outcome, [LEFT, TIE, BOTH_BAD, RIGHT])
  np.testing.assert_array_equal(table.user, [0, 1, 0, 0])
  np.testing.assert_array_equal(table.counts[:2, :, 0], [[10, 5], [0, 2.5]])


def test_json_lines_and_parquet_are_the_same(tmp_path):
  columns = Columns(user="user")
  path = write(tmp_path / "votes.jsonl", ROWS)
  assert_known(vote_table.read(path, columns, ("words",)))
  path.write_text(path.read_text().replace("\n", "\n\n"))  # blank lines are nothing
  assert_known(vote_table.read(path, columns, ("words",)))
  (tmp_path / "votes.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
  assert_known(vote_table.read(tmp_path / "votes.jsonl.gz", columns, ("words",)))
  pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "votes.parquet")
  assert_known(vote_table.read(tmp_path / "votes.parquet", columns, ("words",)))


def test_music_arenas_words_other_columns_and_boards(tmp_path):
  rows = [
    {"left": {"name": i % 2}, "right": "z", "said": said, "kind": kind}
    for i, (said, kind) in enumerate([("A", "v"), ("B", "i"), ("TIE", "i"), ("BOTH_BAD", "v")])
  ]
  table = vote_table.read(
    write(tmp_path / "v.json", rows), Columns("left.name", "right", "said", board="kind")
  )
  assert table.models == ("0", "1", "z") and table.boards == ("i", "v") and table.user is None
  np.testing.assert_array_equal(table.outcome, [LEFT, RIGHT, TIE, BOTH_BAD])
  np.testing.assert_array_equal(table.board, [1, 0, 0, 1])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"winner": "model_c"}, r"row 2, column 'winner': Unknown winner 'model_c'. Did you mean 'model_"),
    ({"winner": 1}, r"row 2, column 'winner': Unknown winner '1'"),
    ({"model_b": "q"}, r"row 2, column 'model_b' holds 'q', which is the other side, too"),
    ({"model_a": None}, r"row 2, column 'model_a' holds None, expected text"),
    ({"model_a": ""}, r"row 2, column 'model_a' holds '', expected text"),
    ({"user": 1.5}, r"row 2, column 'user' holds 1.5, expected text"),
    ({"words_b": -1}, r"row 2, column 'words_b' holds -1, expected a count"),
    ({"words_b": "x"}, r"row 2, column 'words_b' holds 'x', expected a count"),
    ({"words_a": float("nan")}, r"row 2, column 'words_a' holds nan, expected a count"),
  ],
)
def test_bad_rows_are_named(tmp_path, change, message):
  path = write(tmp_path / "votes.jsonl", [ROWS[0], {**ROWS[1], **change}])
  with pytest.raises(DataError, match=f"votes.jsonl: {message}"):
    vote_table.read(path, Columns(user="user"), ("words",))


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("v.jsonl", b'{"model_a": "p"}\n{oops\n', "row 1 lacks the column 'winner'; it has model_a"),
    ("v.jsonl", b"{oops\n", "row 1 is no JSON"),
    ("v.jsonl", b"[1]\n", "row 1 is no JSON object"),
    ("v.jsonl", b"\xff\xfe\n", "cannot be read after row 0"),
    ("v.jsonl.gz", b"no gzip", "cannot be read after row 0"),
    ("v.parquet", b"no parquet", "cannot be read"),
    ("v.jsonl", b"", r"holds no votes \(0 battles without one\)"),
    ("v.csv", b"a,b\n", "neither JSON lines nor Parquet"),
  ],
)
def test_files_that_hold_no_votes(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(DataError, match=message):
    vote_table.read(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(DataError, match="nobody.jsonl does not exist"):
    vote_table.read(tmp_path / "nobody.jsonl")


def test_fifty_lines_of_search_arena(tmp_path):
  """Every winner's word, battles without a vote, sides without a trace."""
  winners = ["model_a", "model_b", "tie", "tie (bothbad)", None]
  rows = []
  for i in range(50):
    turns = [
      {"role": "user", "content": "why so?"}, {"role": "assistant", "content": "word " * (i + 1)},
    ]
    urls = (f"https://en.wikipedia.org/wiki/{i}", "https://x.com/a")
    trace = [{"turn": 1, "results": [{"url": url} for url in urls]}]
    rows.append({
      "model_a": f"m{i % 3}", "model_b": f"m{(i + 1) % 3}", "winner": winners[i % 5],
      "messages_a": turns, "messages_b": turns + [{"role": "assistant", "content": "two words"}],
      "system_a_metadata": {"web_search_trace": trace},
      "system_b_metadata": {"web_search_trace": None} if i % 2 else {},
    })
  features = ("response_length", "citation_count", "cites_wiki", "cites_other")
  path = write(tmp_path / "votes.jsonl", rows)
  table = vote_table.read(path, features=features)
  assert len(table.a) == 40 and table.without_vote == 10
  assert np.bincount(table.outcome).tolist() == [10, 10, 10, 10]
  np.testing.assert_allclose(table.counts[1], [[2, 2, 1, 0], [2, 0, 0, 0]])  # (2 + 2) / 2 words
  np.testing.assert_allclose(table.counts[5, :, 0], [7, 4.5])
  pq.write_table(pa.Table.from_pylist(rows), tmp_path / "votes.parquet")
  np.testing.assert_allclose(
    vote_table.read(tmp_path / "votes.parquet", features=features).counts, table.counts
  )
  rows[3]["messages_b"] = "text"
  with pytest.raises(DataError, match="row 4, column 'messages_b' is no list of messages"):
    vote_table.read(write(path, rows), features=features)


@pytest.mark.parametrize(
  ("address", "kind"),
  [
    ("https://www.youtube.com/watch?v=1", "youtube"), ("https://mit.edu/a", "gov_edu"),
    ("https://www.ncbi.nlm.nih.gov/x", "academic_journal"), ("https://nih.gov", "gov_edu"),
    ("https://netflix.com", "other"), ("https://x.com/a", "social_media"),
    ("bbc.co.uk/news", "foreign_news"),
    ("https://en.wikipedia.org", "wiki"), ("https://notgithub.com", "other"), ("https://[bad", "other"),
  ],
)
def test_kinds_of_sources(address, kind):
  assert answer_style.source_of(address) == kind
