"""torchvision, also beside a torch that its operators do not fit.

The registry's torchvision is built for CUDA. Beside a CPU build of torch its
operators cannot load, and the import fails while it declares their gradients.
Transforms, models and data sets need none of them, so two operator names are
declared by hand and the import is tried once more. With matching builds
(Colab, a GPU machine) the branch is never taken.
"""

import torch

try:
    import torchvision
except RuntimeError:
    # The library object must stay referenced, or the declarations vanish.
    _operators = torch.library.Library("torchvision", "FRAGMENT")
    _arguments = "Tensor dets, Tensor scores, float iou_threshold"
    for _name in ("nms", "qnms"):
        _operators.define(f"{_name}({_arguments}) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
