"""Arrays as the protocol writes them in JSON, exact to the last bit.

A float travels as the shortest decimal that reads back as the same float64; a
float32 is sent as the float64 of equal value, so that no digit is rounded
twice.
"""

from math import prod

import numpy as np
import orjson

from mexutils.api import BadRows

__all__ = ["as_json", "from_json", "tensor_of", "to_tensor"]

_DTYPES = {
    "FP64": np.float64,
    "FP32": np.float32,
    "FP16": np.float16,
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "BOOL": np.bool_,
}
_NAMES = {np.dtype(kind): name for name, kind in _DTYPES.items()}


def as_json(message: dict) -> bytes:
    """The message as JSON; arrays as lists of numbers."""
    return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)


def from_json(text: bytes) -> dict:
    """A message; `ValueError` where it is no JSON object, or holds NaN."""
    message = orjson.loads(text)
    if not isinstance(message, dict):
        raise ValueError(f"an object is needed, not {type(message).__name__}")
    return message


def to_tensor(name: str, array: np.ndarray) -> dict:
    """The array as a tensor of the protocol; words are BYTES.

    Raises `BadRows` for what the protocol cannot carry.
    """
    tensor = {"name": name, "shape": list(array.shape)}
    if array.dtype.kind == "U":
        return tensor | {"datatype": "BYTES", "data": array.ravel().tolist()}
    datatype = _NAMES.get(array.dtype.newbyteorder("="))
    if datatype is None:
        raise BadRows(
            f"{array.dtype} does not travel: send float64, float32, whole "
            "numbers or bool"
        )
    wide = np.float64 if array.dtype.kind == "f" else array.dtype
    data = np.ascontiguousarray(array, dtype=wide).ravel()
    return tensor | {"datatype": datatype, "data": data}


def tensor_of(tensor) -> np.ndarray:
    """A tensor of the protocol as an array; `BadRows` that says why not."""
    if not isinstance(tensor, dict):
        raise BadRows(
            "a tensor is an object with name, shape, datatype and data"
        )
    missing = [k for k in ("shape", "datatype", "data") if k not in tensor]
    if missing:
        raise BadRows(f"the tensor has no {' and no '.join(missing)}")
    shape, datatype = tensor["shape"], tensor["datatype"]
    sides = shape if isinstance(shape, list) else [None]
    if not sides or not all(type(n) is int and n > 0 for n in sides):
        raise BadRows(
            "shape must be a list of whole numbers above 0, as [2, 30], not "
            f"{_short(shape)}"
        )
    if datatype != "BYTES" and datatype not in map(str, _DTYPES):
        raise BadRows(
            f"datatype must be one of {', '.join(_DTYPES)}, not "
            f"{_short(datatype)}"
        )
    data = _flat(tensor["data"], sides)
    if len(data) != prod(sides):
        raise BadRows(
            f"shape {_short(shape)} needs {prod(sides)} numbers and data has "
            f"{len(data)}: send them row by row"
        )
    return _array(data, datatype).reshape(sides)


def _flat(data, sides: list[int]) -> list:
    """The entries in one list, of a flat list or of lists of rows."""
    for depth in range(len(sides)):
        if not isinstance(data, list):
            raise BadRows(f"data must be a list, not {_short(data)}")
        if not data or not isinstance(data[0], list):
            return data
        fits = all(isinstance(e, list) for e in data)
        if not fits or {len(e) for e in data} != set(sides[depth + 1 :][:1]):
            raise BadRows(f"the lists in data do not fit the shape {sides}")
        data = [entry for row in data for entry in row]
    return data


def _array(data: list, datatype: str) -> np.ndarray:
    dtype = _DTYPES.get(datatype)
    kinds = set(map(type, data))
    if datatype == "BYTES":
        allowed = {str}
    elif datatype == "BOOL":
        allowed = {bool}
    elif datatype.startswith("FP"):
        allowed = {int, float}
    else:
        allowed = {int}
    if not kinds <= allowed:
        words = ", ".join(sorted(k.__name__ for k in kinds - allowed))
        raise BadRows(
            f"data of the datatype {datatype} must hold "
            f"{' or '.join(sorted(k.__name__ for k in allowed))} alone, and "
            f"holds {words}"
        )
    if datatype == "BYTES":
        return np.array(data)
    try:
        with np.errstate(over="ignore"):  # to infinity, which is refused
            return np.array(data, dtype=np.float64 if dtype is None else dtype)
    except OverflowError:
        raise BadRows(
            f"data holds numbers beyond the range of {datatype}"
        ) from None


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
