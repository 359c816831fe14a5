"""Data sets of a hub -> rows, through Hugging Face `datasets` or ModelScope's download.

In: an id with subset, split and revision.  Out: rows with `id: row n` as their place, or BadFile
that says how to work without the network. `datasets` is imported only here and takes seconds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft2ollama.data.placed import Placed
from ft2ollama.data.problems import BadFile

_PATIENCE = 10  # seconds
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class HubData:
    """A data set of a hub; `folder` is a folder inside its repository."""

    id: str
    hub: str = "huggingface"
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    folder: str | None = None


def is_hub_id(name: str) -> bool:
    """`owner/name`, unless the first part is a folder here: then it is a path with a mistake."""
    return bool(_ID.fullmatch(name)) and not Path(name).parent.is_dir()


def quiet_datasets() -> Any:
    """The library, without its progress bars and its log."""
    import datasets
    import huggingface_hub
    from huggingface_hub.utils.tqdm import disable_progress_bars

    huggingface_hub.utils.logging.set_verbosity(logging.CRITICAL)
    disable_progress_bars()
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)
    return datasets


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the nulls that columns put inside it.

    In a table every turn has every key: `tool_calls: null` beside a plain text, and in arguments
    the names of all other calls. A null there means that the row has no such key.
    """
    return {name: _pruned(value) for name, value in row.items()}


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _pruned(item) for name, item in value.items() if item is not None}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


def hub_rows(data: HubData, *, streaming: bool) -> Iterator[Placed]:
    """The rows of a data set on the Hugging Face hub; streaming downloads what is read only.

    A hub that cannot be reached is asked once, not for half a minute; then the copy of an earlier
    download is taken, if there is one.
    """
    datasets = quiet_datasets()
    unreachable = _unreachable(data)
    try:
        with _cache_only(unreachable is not None):
            rows = datasets.load_dataset(
                data.id,
                name=data.subset,
                data_dir=data.folder,
                split=data.split,
                revision=data.revision,
                streaming=streaming,
            )
            for number, row in enumerate(rows, 1):
                yield Placed(f"{data.id}: row {number}", without_nulls(row))
    except Exception as error:
        raise _refusal(data, unreachable or error) from error


def _unreachable(data: HubData) -> Exception | None:
    """Why the hub cannot be asked, None when it can; raises BadFile when it has no such data."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(data.id, revision=data.revision, timeout=_PATIENCE)
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise BadFile("hub-missing", data.id, endpoint=constants.ENDPOINT) from error
    except HfHubHTTPError:
        return None  # load_dataset will meet it too, and say more
    except Exception as error:  # noqa: BLE001  whatever the HTTP library of the day raises
        return error
    return None


@contextmanager
def _cache_only(wanted: bool) -> Iterator[None]:
    """HF_HUB_OFFLINE for a while: the libraries look into their cache and ask nobody."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if wanted:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def modelscope_folder(data: HubData) -> Path:
    """Download a data set of ModelScope; its files are read like those of any folder."""
    try:
        from modelscope import dataset_snapshot_download
    except ImportError as error:
        raise BadFile("modelscope-missing", data.id, reason=error) from error
    try:
        folder = Path(dataset_snapshot_download(data.id, revision=data.revision))
    except Exception as error:
        raise _refusal(data, error) from error
    return folder / (data.folder or data.subset or "")


def _refusal(data: HubData, error: Exception) -> BadFile:
    """The library's reason, and what to type: the right split or subset, or a download by hand."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    kind = type(error).__name__
    values = {"reason": reason, "split": data.split, "subset": data.subset or "-"}
    if "Unknown split" in reason or "BuilderConfig" in reason or "Config name" in reason:
        return BadFile("hub-part", data.id, **values)
    if "scripts" in reason:
        return BadFile("hub-script", data.id, **values)
    from huggingface_hub.constants import ENDPOINT

    endpoint = "ModelScope" if data.hub == "modelscope" else ENDPOINT
    values.update(kind=kind, endpoint=endpoint, id=data.id, name=data.id.split("/")[-1])
    return BadFile("hub-unreachable", data.id, **values)
