"""Lists and right answers from files: ids, order, ties, what is left out and what is refused."""

import numpy as np
import pytest

from recjax.errors import DataError
from recjax.evaluate.list_files import read_all

RELEVANCE = "user_id,item_id\nann,c\nann,a\nbob,b\n"
LISTS = "user_id,item_id,score\nbob,a,1\nann,a,2\nann,b,3\nann,d,-1\nzoe,a,1\n"


def read(tmp_path, lists=LISTS, relevance=RELEVANCE, depth=3, name="lists.csv", **files):
  paths = {}
  for key, text in {"relevance": relevance, **files}.items():
    paths[key] = str(tmp_path / f"{key}.csv")
    (tmp_path / f"{key}.csv").write_text(text)
  (tmp_path / name).write_text(lists)
  return read_all({"mine": str(tmp_path / name)}, depth=depth, **paths)


def test_ids_order_and_counts(tmp_path):
  task, lists = read(tmp_path)
  assert task.users.tolist() == ["ann", "bob"]
  assert task.num_items == 4  # a, b, c, d of all files
  assert [part.tolist() for part in task.relevant] == [[0, 2, 3], [1, 3, 2]]
  mine = lists["mine"]
  assert mine.ids.tolist() == [[2, 1, 4], [1, 0, 0]]
  assert mine.scores.tolist() == [[3, 2, -1], [1, -np.inf, -np.inf]]
  assert mine.facts == {
    "users without a list": 0, "users left out, without right answers": 1,
    "lists shorter than asked for": 1,
  }
  assert task.facts["catalogue from the lists"] == 1


def test_depth_cuts_and_missing_users_have_empty_lists(tmp_path):
  _, lists = read(tmp_path, "user_id,item_id,score\nann,a,2\nann,b,3\nann,d,-1\n", depth=2)
  assert lists["mine"].ids.tolist() == [[2, 1], [0, 0]]
  assert lists["mine"].facts["users without a list"] == 1


def test_ranks_order_where_there_are_no_scores(tmp_path):
  _, lists = read(tmp_path, "user_id,item_id,rank\nann,a,2\nann,b,1\n")
  assert lists["mine"].ids[0].tolist() == [2, 1, 0]


def test_scores_decide_where_a_run_has_both(tmp_path):
  _, lists = read(tmp_path, "ann Q0 a 1 0.5 x\nann Q0 b 2 0.9 x\n", name="lists.run")
  assert lists["mine"].ids[0].tolist() == [2, 1, 0]


def test_relevance_of_zero_is_no_right_answer(tmp_path):
  task, _ = read(tmp_path, relevance="user_id,item_id,relevance\nann,c,1\nann,a,0\nbob,b,0\n")
  assert task.users.tolist() == ["ann"]
  assert task.relevant[1].tolist() == [3]


def test_catalogue_categories_training_and_groups(tmp_path):
  task, _ = read(
    tmp_path,
    items="item_id,category\nd,x\nc,y\nb,x\na,z\ne,y\n",
    training="user_id,item_id\nann,b\nann,b\nann,e\nzoe,b\nbob,a\n",
    users="user_id,gender\nbob,M\nzoe,F\n",
  )
  assert task.num_items == 5  # in the order of the file: d c b a e
  assert task.categories.tolist() == [0, 1, 2, 1, 3, 2]
  assert task.train_counts.tolist() == [0, 0, 0, 3, 1, 1]
  assert [part.tolist() for part in task.histories] == [[0, 2, 3], [3, 5, 4]]
  assert task.groups["gender"].tolist() == ["", "M"]
  assert task.facts["catalogue from the lists"] == 0


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"lists": LISTS + "ann,a,7\n"}, "has user 'ann' and item 'a' together twice"),
    ({"relevance": RELEVANCE + "bob,b\n"}, "has user 'bob' and item 'b' together twice"),
    ({"lists": "user_id,item_id\nann,a\n"}, "neither a column 'score' nor 'rank'"),
    ({"lists": "user_id,item_id,rank\nann,a,1\nann,b,1\n"}, "user 'ann' two items of rank 1"),
    ({"items": "item_id\na\nb\nc\n"}, "the item 'd', which is not in"),
    ({"items": "item_id\na\nb\nc\nd\na\n"}, "names item 'a' twice"),
    ({"users": "user_id,g\nann,1\nann,2\n"}, "names user 'ann' twice"),
    (
      {"users": "user_id,g\n" + "".join(f"u{i},{i}\n" for i in range(101)),
       "relevance": "user_id,item_id\n" + "".join(f"u{i},a\n" for i in range(101))},
      "column 'g' has more than 100 values",
    ),
    ({"relevance": "user_id,item_id,relevance\nann,a,0\n"}, "no pair with a relevance above 0"),
  ],
)
def test_what_is_refused(tmp_path, changes, message):
  with pytest.raises(DataError, match=message):
    read(tmp_path, **changes)
