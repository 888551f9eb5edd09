"""Data sets as NumPy arrays: what the package embeds, draws or can fetch.

Nothing is downloaded unless the caller asks for it, and no data set is ever
replaced by another: an absent one is a `FileNotFoundError` that says how to
get it.
"""

import gzip
import hashlib
import importlib.util
import json
import os
import re
import string
from collections import Counter
from functools import cache, lru_cache
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.datasets
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

from mexutils.cache import cache_dir

__all__ = [
    "CHECKSUMS",
    "LETTERS",
    "TABULAR",
    "Corpus",
    "Sample",
    "Split",
    "Tokens",
    "data_dir",
    "emnist_letters",
    "fashion_mnist",
    "letters",
    "mnist",
    "noise",
    "reuters",
    "reuters_tokens",
    "tabular",
]

CHECKSUMS: dict[str, str] = {
    "reuters21578.jsonl.gz": (
        "5f57073b2f58e5d07c1c6bbd2008dd09200bb3ece897455802620ed6d3fc5413"
    ),
    "spambase.csv.gz": (
        "b9f661fb29ab8c6e0abc5d83ff51f59277be1fd43260a4e65955ce29ee7a9ef9"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "winequality-red.csv": (
        "0a217383ca4f6abe5f4df1bfa741de54979537957374d8a4c0b44960db1be840"
    ),
}
"""The SHA-256 of each embedded data set: what a result on it stands on."""

LETTERS = string.ascii_uppercase + string.ascii_lowercase
TABULAR = (
    *("breast_cancer", "digits", "iris", "red_wine", "spambase", "wine"),
)

_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"),
    *("DejaVuSansMono", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    *("STIXGeneralBolIta", "cmb10", "cmr10", "cmss10", "cmtt10"),
)
_BLOCK = 1000  # letters are drawn in blocks, so that more begin with fewer


class Sample(NamedTuple):
    """Rows and their labels: `x` is (n, ...) float, `y` is (n,) int."""

    x: np.ndarray
    y: np.ndarray


class Split(NamedTuple):
    """A data set in two parts, with the names of its features."""

    train: Sample
    test: Sample
    names: tuple[str, ...] = ()


class Corpus(NamedTuple):
    """Documents: the text of each, and the topics that it was given."""

    texts: tuple[str, ...]
    topics: tuple[tuple[str, ...], ...]


class Tokens(NamedTuple):
    """Documents as numbers: the words that are told apart, and the numbers.

    `words[i]` is the word of token i; token 0 stands for all other words.
    """

    words: tuple[str, ...]
    texts: tuple[np.ndarray, ...]


@cache
def mnist() -> Split:
    """MNIST: 60,000 and 10,000 digits, (n, 1, 28, 28) float32 in [0, 1].

    The four official files are embedded in the package
    (LeCun and Cortes; CC BY-SA 3.0). A process reads them once and gets the
    same arrays each time: copy what you want to change.
    """
    parts = (
        Sample(
            _idx(f"{part}-images-idx3-ubyte.gz", 16)
            .reshape(-1, 1, 28, 28)
            .astype(np.float32)
            / 255,
            _idx(f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64),
        )
        for part in ("train", "t10k")
    )
    return Split(*parts)


def _idx(name: str, header: int) -> np.ndarray:
    """The bytes of an embedded IDX file after its header."""
    content = gzip.decompress(_embedded(name))
    return np.frombuffer(content, np.uint8, offset=header)


def _embedded(name: str) -> bytes:
    """What the embedded file holds, after a look at its checksum.

    Raises `FileNotFoundError` where it is absent and `RuntimeError` where it
    is damaged, both with the remedy.
    """
    path = files("mexutils") / "data" / name
    remedy = "install mexutils anew, or run from a fresh, complete checkout"
    if not path.is_file():
        raise FileNotFoundError(f"{name} is not in mexutils/data: {remedy}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
        raise RuntimeError(
            f"{name} in mexutils/data is damaged (its SHA-256 is not the one "
            f"in datasets.CHECKSUMS): {remedy}"
        )
    return content


def letters(n: int = 10_000, seed: int = 0) -> Sample:
    """Letters drawn from the fonts that matplotlib ships, and warped.

    Every image is one of the 52 letters A-Z, a-z in one of 16 fonts, after a
    random affine map (rotation, shear, scale, shift) and a random elastic
    warp. `y` indexes `LETTERS`. The first m of `letters(n, seed)` are
    `letters(m, seed)`.

    Returns x (n, 1, 28, 28) float32 in [0, 1], y (n,) in 0..51.
    """
    n = _count(n)
    x, y = zip(*(_block(b, seed) for b in range(-(-n // _BLOCK))), strict=True)
    return Sample(torch.cat(x)[:n].numpy(), torch.cat(y)[:n].numpy())


@lru_cache(maxsize=40)  # 120 MB; attackers draw the same pool again
def _block(block: int, seed: int) -> tuple[Tensor, Tensor]:
    """A block of letters and what they are; nobody writes into it."""
    rng = torch.Generator().manual_seed(1_000_003 * seed + block)
    letter = torch.randint(len(LETTERS), (_BLOCK,), generator=rng)
    font = torch.randint(len(_FONTS), (_BLOCK,), generator=rng)
    return _warp(_glyphs()[font, letter], rng), letter


@cache
def _glyphs() -> Tensor:
    """Every letter in every font, centred: (fonts, 52, 1, 56, 56)."""
    # matplotlib is looked up, not imported: drawing needs its files alone.
    spec = importlib.util.find_spec("matplotlib")
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return torch.stack(
        [
            torch.stack([_glyph(folder / f"{font}.ttf", c) for c in LETTERS])
            for font in _FONTS
        ]
    )


def _glyph(font: Path, letter: str) -> Tensor:
    """One letter, its longer side 40 of 56 pixels, as MNIST frames digits."""
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(str(font), 60)
    left, top, right, bottom = face.getbbox(letter)
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), letter, fill=255, font=face)
    scale = 40 / max(image.size)
    image = image.resize([max(1, round(side * scale)) for side in image.size])
    canvas = Image.new("L", (56, 56))
    canvas.paste(image, ((56 - image.width) // 2, (56 - image.height) // 2))
    pixels = torch.tensor(np.asarray(canvas), dtype=torch.float32) / 255
    # Smoothed, for the warp reads every second pixel.
    return F.avg_pool2d(pixels[None], 3, 1, 1)


def _warp(glyph: Tensor, rng: torch.Generator) -> Tensor:
    """A random affine map and elastic warp of (n, 1, 56, 56), at half size."""
    n = len(glyph)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=rng)

    angle, shear = uniform(-0.45, 0.45), uniform(-0.4, 0.4)
    width, height = uniform(0.8, 1.4), uniform(0.8, 1.4)
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack(
        [
            torch.stack([cos * width, (shear * cos - sin) * height], -1),
            torch.stack([sin * width, (shear * sin + cos) * height], -1),
        ],
        -2,
    )
    affine = torch.cat([matrix, uniform(-0.2, 0.2, 2, 1)], -1)
    where = F.affine_grid(affine, [n, 1, 28, 28], align_corners=False)
    bend = uniform(-0.15, 0.15, 2, 5, 5)
    bend = F.interpolate(bend, (28, 28), mode="bicubic", align_corners=True)
    where = where + bend.permute(0, 2, 3, 1)
    return F.grid_sample(glyph, where, align_corners=False).clamp(0, 1)


def noise(
    n: int,
    shape: tuple[int, ...],
    seed: int = 0,
    low: float = 0.0,
    high: float = 1.0,
) -> np.ndarray:
    """n rows of the given shape, every entry uniform in [low, high]."""
    rng = np.random.default_rng(seed)
    return rng.uniform(low, high, (_count(n), *shape)).astype(np.float32)


def tabular(name: str, seed: int = 0, test_size: float = 0.3) -> Split:
    """A table with every feature scaled to [-1, 1], split at random.

    The protocol of Tramèr et al. (2016): features scaled to [-1, 1], the
    victim trained on a random 70 %, the rest kept for the test error.

    name: one of `TABULAR`. Two are embedded: `red_wine` (Cortez et al. 2009,
    CC BY 4.0: 1,599 wines, 11 features, quality 3 to 8) and `spambase`
    (Hopkins et al. 1999, UCI 94, CC BY 4.0: 4,601 e-mails, 57 frequencies of
    words and characters, 1 for spam). The others ship with scikit-learn.
    Returns float64 rows.
    """
    if name == "red_wine":
        head, *rows = _embedded("winequality-red.csv").decode().splitlines()
        names = head.replace("_", " ").split(",")[:-1]
        table = np.array([row.split(",") for row in rows], dtype=float)
        x, y = table[:, :-1], table[:, -1].astype(int)
    elif name == "spambase":
        packed = _embedded("spambase.csv.gz")
        head, *rows = gzip.decompress(packed).decode().splitlines()
        names = head.split(",")[:-1]
        cells = [row.rsplit(",", 1) for row in rows]
        x = np.array([row.split(",") for row, _ in cells], dtype=float)
        y = np.array([int(kind == "spam") for _, kind in cells])
    elif name in TABULAR:
        table = getattr(sklearn.datasets, f"load_{name}")()
        x, y, names = table.data, table.target, table.feature_names
    else:
        raise ValueError(
            f"no table is called {name!r}; there are {', '.join(TABULAR)}"
        )
    low, high = x.min(0), x.max(0)
    span = np.where(high > low, high - low, 1.0)  # a constant column stays put
    x = 2 * (x - low) / span - 1
    x, x_test, y, y_test = train_test_split(
        x, y, test_size=test_size, random_state=seed, stratify=y
    )
    return Split(Sample(x, y), Sample(x_test, y_test), tuple(map(str, names)))


def reuters() -> Corpus:
    """Reuters-21578, Distribution 1.0: newswire stories of 1987.

    21,578 documents in the order of the collection; each text is the title,
    a line break, and the body, either of which may be empty. 11,367 have
    topics, in the order in which the collection lists them; the others have
    an empty tuple.

    Copyright Reuters Ltd. and Carnegie Group, Inc.; free for research. The
    notice `reuters21578-NOTICE.txt` lies beside the data.

    Raises `FileNotFoundError` where the package lacks the file, and
    `RuntimeError` where the file is damaged.
    """
    packed = _embedded("reuters21578.jsonl.gz")
    lines = gzip.decompress(packed).decode().splitlines()
    stories = [json.loads(line) for line in lines]
    return Corpus(
        tuple(f"{s.get('title', '')}\n{s.get('body', '')}" for s in stories),
        tuple(tuple(s.get("topics", ())) for s in stories),
    )


@cache
def reuters_tokens(size: int = 2000, counted: int = 12_000) -> Tokens:
    """The stories of `reuters` as token numbers 0 to size - 1.

    A token is a word in lower case, a number, a full stop or a comma. The
    words are the most frequent ones of the first `counted` stories, in
    falling order, after token 0 for all others. A process makes them once;
    nobody can write into them.
    """
    size, counted = _count(size), _count(counted)
    stories = [
        re.findall(r"[a-z]+|[0-9]+|[.,]", text.lower())
        for text in reuters().texts
    ]
    told = Counter(word for story in stories[:counted] for word in story)
    words = ("<other>", *(w for w, _ in told.most_common(size - 1)))
    number = {word: i for i, word in enumerate(words)}
    texts = tuple(
        np.array([number.get(word, 0) for word in story], dtype=np.int64)
        for story in stories
    )
    for text in texts:
        text.setflags(write=False)
    return Tokens(words, texts)


def data_dir() -> Path:
    """Where data sets that the reader fetched lie (`MEXUTILS_DATA`)."""
    chosen = os.environ.get("MEXUTILS_DATA")
    return Path(chosen) if chosen else cache_dir() / "data"


def emnist_letters(train: bool = False, download: bool = False) -> Sample:
    """EMNIST Letters (Cohen et al. 2017): handwritten letters as 28 x 28.

    Despite the name's kinship with MNIST it holds letters only. `y` counts
    from 0 (a or A) to 25. The files store every image transposed; here they
    stand upright. The 10,000 test images or fewer may be there alone.

    Raises `FileNotFoundError` where the files are absent and `download` is
    false; `download=True` fetches about 560 MB by torchvision's own loader.
    """
    raw = _fetch("EMNIST", "emnist_letters", train, download, split="letters")
    images = raw.data.transpose(1, 2)
    return Sample(_pixels(images), raw.targets.numpy() - 1)


def fashion_mnist(train: bool = False, download: bool = False) -> Sample:
    """Fashion-MNIST (Xiao et al. 2017): ten kinds of clothes as 28 x 28.

    Raises `FileNotFoundError` where the files are absent and `download` is
    false; `download=True` fetches about 30 MB by torchvision's own loader.
    """
    raw = _fetch("FashionMNIST", "fashion_mnist", train, download)
    return Sample(_pixels(raw.data), raw.targets.numpy())


def _fetch(kind: str, name: str, train: bool, download: bool, **options):
    """torchvision's data set of that kind, which `datasets.name` answers."""
    # Seconds to import, and needed by nothing else.
    from mexutils._torchvision import torchvision

    loader = getattr(torchvision.datasets, kind)
    root = data_dir()
    root.mkdir(parents=True, exist_ok=True)
    try:
        return loader(root, train=train, download=download, **options)
    except RuntimeError as error:  # torchvision's word for "not found"
        raise FileNotFoundError(
            f"{kind} is not in {root}. Call "
            f"datasets.{name}(train={train}, download=True) once to fetch it, "
            "or set MEXUTILS_DATA to a folder that holds it in torchvision's "
            "layout."
        ) from error


def _pixels(images: Tensor) -> np.ndarray:
    """Bytes (n, 28, 28) as (n, 1, 28, 28) float32 in [0, 1]."""
    return (images[:, None].float() / 255).contiguous().numpy()


def _count(n: int) -> int:
    if not isinstance(n, Real) or isinstance(n, bool) or n < 1 or n % 1 != 0:
        raise ValueError(f"n must be a whole number above 0, not {n!r}")
    return int(n)
