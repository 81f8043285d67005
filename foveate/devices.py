"""Is there a device of this name that can compute?"""

import torch


def require_device(device: str | torch.device, what: str = "device") -> torch.device:
    """The device.

    what: the option that names it, for the message.

    Raises: ValueError: this machine has none of that name, or nothing can be computed on it, as on "meta".
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    counts = {"cpu": 1} | ({} if accelerator is None else {accelerator.type: torch.accelerator.device_count()})
    try:
        found = torch.device(device)
        there = (found.index or 0) < counts.get(found.type, 0)
    except RuntimeError:
        there = False
    if not there:
        raise ValueError(f"{what}: wanted one of this machine's ({', '.join(counts)}); got {str(device)!r}")
    return found
