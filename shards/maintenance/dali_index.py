"""Write index files for DALI's `readers.webdataset` beside the tars, as DALI's wds2idx does.

A line of version and number of samples; then for each sample the extension, offset, size and name
of its members. Taken from our index, so no tar is read.
"""

from pathlib import Path

from shards.errors import ShardError
from shards.format.index import ShardIndex
from shards.maintenance.verify import open_data_sets
from shards.reading.remote_store import RemoteStore
from shards.storage.local_files import LocalFolder
from shards.storage.transfer import RemoteOptions
from shards.storage.upload import RemoteFolder

SUFFIX = ".idx"


def dali_index(index: ShardIndex) -> bytes:
    """The index file of one shard.

    Raises:
        ShardError: a member's name has white space in it, which the format cannot hold.
    """
    lines = [f"v1.2 {len(index)}"]
    for sample in map(index.sample, range(len(index))):
        if any(name.split() != [name] for name in (sample.key, *sample.members)):
            raise ShardError(
                f"{index.shard}: sample {sample.key!r} has white space in a name, and DALI's index "
                "files cannot hold it. Let DALI read the tar without one."
            )
        members = sample.members.values()
        fields = [f"{m.extension} {m.offset} {m.size} {sample.key}.{m.extension}" for m in members]
        lines.append(" ".join(fields))
    return "".join(line + "\n" for line in lines).encode()


def write_dali_indexes(data_set: Path | str, remote: RemoteOptions | None = None) -> list[str]:
    """Write one beside each tar of a data set (or of its train and val): shard-000000.idx.

    Args:
        data_set: its folder or URL.
        remote: attempts and storage_options, for a URL.

    Returns:
        Where they are.

    Raises:
        ShardError: the data set cannot be read or written, or see `dali_index`.
    """
    written = []
    for store, manifest in open_data_sets(data_set, remote):
        folder: LocalFolder | RemoteFolder
        if isinstance(store, RemoteStore):
            folder = RemoteFolder(store.url, remote)
        else:
            folder = LocalFolder(store.location)
        for entry in manifest.shards:
            name = entry.name.removesuffix(".tar") + SUFFIX
            folder.write(name, dali_index(store.shard(entry).index))
            written.append(f"{folder.location}/{name}")
    return written
