"""The data sets: what they hold, and what an absent one says."""

import os
import re
import socket
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from mexutils import datasets


@pytest.fixture(scope="module")
def drawn():
    return datasets.letters(3000)


# --- MNIST ----------------------------------------------------------------


def test_mnist_is_the_official_set():
    train, test, _ = datasets.mnist()
    counts = {
        60_000: "5923 6742 5958 6131 5842 5421 5918 6265 5851 5949",
        10_000: "980 1135 1032 1010 982 892 958 1028 974 1009",
    }
    for part, (n, per_class) in zip(
        (train, test), counts.items(), strict=True
    ):
        assert part.x.shape == (n, 1, 28, 28)
        assert part.x.dtype == np.float32
        assert part.x.min() == 0 and part.x.max() == 1
        assert " ".join(map(str, np.bincount(part.y))) == per_class
    assert test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert train.x.mean() == pytest.approx(0.1307, abs=1e-4)


# --- rendered letters -----------------------------------------------------


def test_letters_have_the_form_of_mnist(drawn):
    assert drawn.x.shape == (3000, 1, 28, 28)
    assert drawn.x.dtype == np.float32
    assert drawn.x.min() == 0 and 0.99 < drawn.x.max() <= 1
    assert (drawn.x.max(axis=(1, 2, 3)) > 0.5).all()


def test_every_letter_is_drawn(drawn):
    assert set(drawn.y) == set(range(len(datasets.LETTERS)))


@pytest.mark.parametrize("n", [1, 999, 1000, 1001, 2500])
def test_fewer_letters_are_the_first_of_more(drawn, n):
    fewer = datasets.letters(n)
    np.testing.assert_array_equal(fewer.x, drawn.x[:n])
    np.testing.assert_array_equal(fewer.y, drawn.y[:n])


def test_another_seed_draws_other_letters(drawn):
    other = datasets.letters(500, seed=1)
    assert (other.y != drawn.y[:500]).mean() > 0.9
    assert np.abs(other.x - drawn.x[:500]).mean() > 0.05


def test_no_letter_is_drawn_twice(drawn):
    assert len(np.unique(drawn.x.reshape(3000, -1), axis=0)) == 3000


def test_the_labels_of_letters_can_be_learnt(drawn):
    x = drawn.x.reshape(3000, -1)
    model = NearestCentroid().fit(x[:2500], drawn.y[:2500])
    chance = 1 / len(datasets.LETTERS)
    assert model.score(x[2500:], drawn.y[2500:]) > 6 * chance


def test_letters_stand_upright(drawn):
    def mean_image(letter):
        chosen = drawn.y == datasets.LETTERS.index(letter)
        return drawn.x[chosen].mean(axis=(0, 1))

    big_l, big_t = mean_image("L"), mean_image("T")
    assert big_l[14:].sum() > 1.15 * big_l[:14].sum()
    assert big_l[:, :14].sum() > 1.15 * big_l[:, 14:].sum()
    assert big_t[:14].sum() > 1.15 * big_t[14:].sum()


BAD_COUNTS = [0, -1, 2.5, True, np.nan, np.inf, "ten", None]


@pytest.mark.parametrize("n", BAD_COUNTS)
def test_a_bad_number_of_letters_is_refused(n):
    with pytest.raises(ValueError, match="n must be a whole number above 0"):
        datasets.letters(n)


# --- noise ----------------------------------------------------------------


def test_noise_is_uniform_in_its_range():
    x = datasets.noise(2000, (1, 4, 4), low=-1, high=3)
    assert x.shape == (2000, 1, 4, 4) and x.dtype == np.float32
    assert -1 <= x.min() < -0.99 and 2.99 < x.max() <= 3
    shares = np.histogram(x, 4, (-1, 3))[0] / x.size
    np.testing.assert_allclose(shares, 0.25, atol=0.01)


def test_noise_depends_on_the_seed_alone():
    first, again = datasets.noise(9, (3,), 5), datasets.noise(9, (3,), 5)
    np.testing.assert_array_equal(first, again)
    assert (first != datasets.noise(9, (3,), 6)).all()


@pytest.mark.parametrize("n", BAD_COUNTS)
def test_a_bad_number_of_noise_rows_is_refused(n):
    with pytest.raises(ValueError, match="n must be a whole number above 0"):
        datasets.noise(n, (3,))


# --- tables ---------------------------------------------------------------

SIZES = {
    "breast_cancer": (569, 30, 2),
    "digits": (1797, 64, 10),
    "iris": (150, 4, 3),
    "red_wine": (1599, 11, 6),
    "spambase": (4601, 57, 2),
    "wine": (178, 13, 3),
}


def test_the_tables_are_those_that_are_tested():
    assert set(datasets.TABULAR) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_table_has_its_rows_scaled_and_split(name):
    train, test, names = datasets.tabular(name)
    n, width, classes = SIZES[name]
    x, y = np.concatenate([train.x, test.x]), np.concatenate([train.y, test.y])
    assert x.shape == (n, width) and x.dtype == np.float64
    assert len(names) == width and len(set(names)) == width
    assert len(set(y)) == classes and len(y) == n
    varying = np.ptp(x, axis=0) > 0
    assert varying.sum() >= width - 3  # three pixels of the digits are blank
    assert (x[:, varying].min(0) == -1).all()
    assert (x[:, varying].max(0) == 1).all()
    assert np.isin(x[:, ~varying], [-1, 0, 1]).all()
    assert abs(len(test.x) - 0.3 * n) <= 1
    labels, counts = np.unique(y, return_counts=True)
    kept = np.array([(test.y == label).sum() for label in labels])
    assert (np.abs(kept - 0.3 * counts) <= 1).all()


def test_red_wine_is_the_published_table():
    train, test, names = datasets.tabular("red_wine")
    y = np.concatenate([train.y, test.y])
    assert np.bincount(y)[3:].tolist() == [10, 53, 681, 638, 199, 18]
    assert names[0].replace("_", " ") == "fixed acidity"
    assert names[-1] == "alcohol"


def test_spambase_is_the_published_table():
    train, test, names = datasets.tabular("spambase")
    y = np.concatenate([train.y, test.y])
    assert np.bincount(y).tolist() == [2788, 1813]
    assert names[0] == "make" and names[-1] == "capitalTotal"
    spam, mail = (train.x[train.y == k].mean(axis=0) for k in (1, 0))
    assert spam[names.index("free")] > mail[names.index("free")]
    assert spam[names.index("george")] < mail[names.index("george")]


def test_a_seed_draws_its_own_split_of_the_same_rows():
    first, other = datasets.tabular("iris", 0), datasets.tabular("iris", 1)
    again = datasets.tabular("iris", 0)
    np.testing.assert_array_equal(first.train.x, again.train.x)
    assert not np.array_equal(first.train.x, other.train.x)
    rows = [
        sorted(map(tuple, np.concatenate([split.train.x, split.test.x])))
        for split in (first, other)
    ]
    assert rows[0] == rows[1]


def test_an_unknown_table_is_refused_with_a_list():
    with pytest.raises(ValueError, match="'adult'; there are breast_cancer"):
        datasets.tabular("adult")


# --- text ------------------------------------------------------------------


def test_reuters_is_the_published_collection():
    texts, topics = datasets.reuters()
    assert len(texts) == len(topics) == 21_578
    assert sum(map(bool, topics)) == 11_367
    first = Counter(names[0] for names in topics if names)
    assert [first[name] for name in ("earn", "acq", "crude")] == [
        *(3972, 2423, 543)
    ]
    assert texts[0].startswith("BAHIA COCOA REVIEW\nShowers continued")
    assert topics[:2] == (("cocoa",), ())


def test_tokens_are_words_by_frequency():
    words, texts = datasets.reuters_tokens()
    assert len(words) == len(set(words)) == 2000
    assert words[0] == "<other>" and {*words[1:6]} >= {"the", "of", "."}
    assert len(texts) == 21_578
    first = datasets.reuters().texts[0].lower()
    said = [words[i] for i in texts[0]]
    assert said[:3] == ["<other>", "cocoa", "review"]
    assert {w for w in said if w.isalpha()} <= set(re.findall("[a-z]+", first))
    counts = np.bincount(np.concatenate(texts[:12_000]), minlength=2000)
    assert (np.diff(counts[1:]) <= 0).all() and counts.min() > 0
    with pytest.raises(ValueError, match="read-only"):
        texts[0][0] = 1


def test_reuters_keeps_its_notice_beside_it():
    folder = Path(datasets.__file__).parent / "data"
    assert (folder / "reuters21578.jsonl.gz").is_file()
    notice = (folder / "reuters21578-NOTICE.txt").read_text()
    for words in ("Distribution 1.0", "Reuters Ltd", "research purposes"):
        assert words in notice


# --- what the package embeds ------------------------------------------------

DATA = Path(datasets.__file__).parent / "data"
READERS = {
    "reuters21578.jsonl.gz": datasets.reuters,
    "spambase.csv.gz": lambda: datasets.tabular("spambase"),
    "t10k-images-idx3-ubyte.gz": datasets.mnist.__wrapped__,
    "t10k-labels-idx1-ubyte.gz": datasets.mnist.__wrapped__,
    "train-images-idx3-ubyte.gz": datasets.mnist.__wrapped__,
    "train-labels-idx1-ubyte.gz": datasets.mnist.__wrapped__,
    "winequality-red.csv": lambda: datasets.tabular("red_wine"),
}


def test_every_embedded_data_set_has_a_checksum():
    assert set(READERS) <= set(datasets.CHECKSUMS)
    embedded = {path.name for path in DATA.iterdir()}
    others = {"mnist_lenet.npz", "letters_lenet.npz", "reuters_text.npz"}
    others |= {"reuters21578-NOTICE.txt"}
    assert embedded - others == set(datasets.CHECKSUMS)


@pytest.fixture
def data_elsewhere(tmp_path, monkeypatch):
    """The embedded files as links in a folder that the test may change."""
    (tmp_path / "data").mkdir()
    for name in READERS:
        (tmp_path / "data" / name).symlink_to(DATA / name)
    monkeypatch.setattr(datasets, "files", lambda _: tmp_path)
    return tmp_path / "data"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", ["one bit", "cut short", "empty"])
def test_a_damaged_file_is_named_with_its_remedy(data_elsewhere, name, damage):
    content = bytearray((DATA / name).read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 if damage == "cut short" else 0 :]
    (data_elsewhere / name).unlink()
    (data_elsewhere / name).write_bytes(content)
    words = f"{name} in mexutils/data is damaged.*install mexutils anew"
    with pytest.raises(RuntimeError, match=words):
        READERS[name]()


@pytest.mark.parametrize("name", READERS)
def test_an_absent_file_is_named_with_its_remedy(data_elsewhere, name):
    (data_elsewhere / name).unlink()
    words = f"{name} is not in mexutils/data: install mexutils anew"
    with pytest.raises(FileNotFoundError, match=words):
        READERS[name]()


# --- sets that the reader fetches ------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a download was attempted")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", ["emnist_letters", "fashion_mnist"])
@pytest.mark.parametrize("train", [True, False])
def test_an_absent_set_says_how_to_get_it(
    name, train, tmp_path, monkeypatch, no_network
):
    monkeypatch.setenv("MEXUTILS_DATA", str(tmp_path))
    call = rf"datasets.{name}\(train={train}, download=True\)"
    with pytest.raises(FileNotFoundError, match=f"{call}.*MEXUTILS_DATA"):
        getattr(datasets, name)(train=train)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_fetched_sets_lie_in_the_cache_unless_told_otherwise(
    own_cache, monkeypatch
):
    monkeypatch.delenv("MEXUTILS_DATA", raising=False)
    assert datasets.data_dir() == own_cache / "data"


def write_idx(path, array):
    """The array as an IDX file of unsigned bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim])
    sizes = np.array(array.shape, ">i4").tobytes()
    path.write_bytes(header + sizes + array.astype(np.uint8).tobytes())


def test_emnist_letters_are_turned_upright_and_counted_from_zero(
    tmp_path, monkeypatch, no_network
):
    monkeypatch.setenv("MEXUTILS_DATA", str(tmp_path))
    stored = np.random.default_rng(0).integers(0, 256, (3, 28, 28))
    stem = tmp_path / "EMNIST" / "raw" / "emnist-letters-test"
    write_idx(stem.with_name(f"{stem.name}-images-idx3-ubyte"), stored)
    labels = np.array([1, 26, 2])
    write_idx(stem.with_name(f"{stem.name}-labels-idx1-ubyte"), labels)
    x, y = datasets.emnist_letters()
    assert x.shape == (3, 1, 28, 28) and x.dtype == np.float32
    np.testing.assert_allclose(x[:, 0], stored.transpose(0, 2, 1) / 255)
    assert y.tolist() == [0, 25, 1]


@pytest.fixture
def readers_data():
    if not os.environ.get("MEXUTILS_DATA"):
        pytest.skip("MEXUTILS_DATA names no folder of fetched data sets")


@pytest.mark.parametrize(
    ("name", "classes"), [("emnist_letters", 26), ("fashion_mnist", 10)]
)
def test_a_fetched_set_has_the_form_of_mnist(readers_data, name, classes):
    try:
        x, y = getattr(datasets, name)()
    except FileNotFoundError as absent:
        pytest.skip(str(absent))
    assert x.shape == (len(y), 1, 28, 28) and x.dtype == np.float32
    assert x.min() == 0 and x.max() == 1
    # The first rows alone may be there, which are sorted by their letter.
    assert set(y) <= set(range(classes)) and len(set(y)) >= classes / 2
