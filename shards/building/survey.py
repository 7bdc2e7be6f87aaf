"""Survey a source: find out what must be known of it before it can be cut. Done by workers."""

from dataclasses import dataclass
from fractions import Fraction

from shards.encoding.stream_copy import cut_points
from shards.errors import BuildError, SourceError
from shards.media.faults import sources_fault
from shards.media.probe import Probe, probe
from shards.media.scene_cuts import scene_cuts
from shards.options import BuildOptions
from shards.sources.source import Source
from shards.storage.opening import open_source


@dataclass(frozen=True)
class Survey:
    """What was found out about a source.

    Attributes:
        probe: what its header and its first frame say.
        scene_cuts: the times, in order, that no clip may cross; only where scenes are cut.
        cut_points: where video is copied, the times at which a clip may begin or end.
    """

    probe: Probe
    scene_cuts: tuple[Fraction, ...] = ()
    cut_points: tuple[Fraction, ...] = ()


def survey(source: Source, options: BuildOptions) -> Survey:
    """Find out what cutting a source takes.

    Raises:
        SourceError: the source cannot become clips, and why.
    """
    with sources_fault("probe"):
        return _survey(source, options)


def _survey(source: Source, options: BuildOptions) -> Survey:
    source.check()
    found = probe(source.location, tracks=options.tracks)
    usable = found.has_audio or not options.requires_audio
    if not usable or not (options.cut == "scenes" or options.copies):
        return Survey(found)
    start, stop = source.range_within(found.duration_seconds)
    try:
        own = options.for_source(found.frame_rate, found.frame_size)
    except BuildError as error:
        raise SourceError("probe", "a size that cannot be kept", str(error)) from error
    points: tuple[Fraction, ...] = ()
    cuts: tuple[Fraction, ...] = ()
    with open_source(source.location) as opened:
        if options.copies:
            points = cut_points(opened.file, own)
        if options.cut == "scenes":
            seeks = not found.clock_jumps
            cuts = scene_cuts(
                opened.file, found.origin, start, stop, seeks=seeks, tracks=options.tracks
            )
    return Survey(found, cuts, points)
