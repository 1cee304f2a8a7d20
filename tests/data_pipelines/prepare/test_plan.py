import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.capture_times import ClockTime
from data_pipelines.errors import UserError
from data_pipelines.prepare import plan as plan_module
from data_pipelines.prepare.catalogue import Catalogue, CatalogueBuilder
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.plan import make_plan


def catalogue_of(photos: list[tuple[int, int, int, int]]) -> Catalogue:
    """A catalogue from (id, camera, minute, windows) of each photo."""
    builder = CatalogueBuilder()
    for i, (photo, camera, minute, windows) in enumerate(photos):
        builder.add_photo(
            photo=photo,
            camera=f"Camera {camera}",
            time=ClockTime(60.0 * minute),
            timed=True,
            place=-1,
            digest=1,
            size_differs=False,
            file=i,
            width=256 * windows,
            height=256,
            offset=10 * i,
            look=-1,
            values={"Make": f"Maker {camera}", "ISO": 100.0},
            windows=[(256 * number, i, 9) for number in range(windows)],
            skipped_windows={"flat": 1},
        )
    return builder.build()


PHOTOS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 4), st.integers(0, 500), st.integers(1, 5)),
    min_size=1,
    max_size=80,
)


@given(PHOTOS, st.sampled_from(["photo", "camera"]), st.integers(1, 20), st.booleans())
def test_every_photo_is_in_one_shard_and_nothing_crosses_the_split(
    photos: list[tuple[int, int, int, int]], split_by: str, per_shard: int, keep_copies: bool
) -> None:
    reject = tuple(set(Options().reject) - ({"duplicate"} if keep_copies else set()))
    options = Options(
        validation_fraction=0.3,
        split_by=split_by,
        reject=reject,  # type: ignore[arg-type]
    )
    catalogue = catalogue_of(photos)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "WINDOWS_PER_SHARD", per_shard)
        try:
            plan = make_plan(catalogue, options, coded=False)
        except UserError as error:
            assert "none can be held out" in str(error)
            return
    placed = [photo for shard in plan.shards for photo in shard.photos.tolist()]
    ids = [photo[0] for photo in photos]
    expected = set(range(len(photos))) if keep_copies else {ids.index(photo) for photo in ids}
    assert set(plan.catalogue.file.tolist()) == expected
    assert sorted(placed) == list(range(len(expected)))
    sides = [
        {group for s in plan.shards if s.split == split for group in plan.group[s.photos].tolist()}
        for split in ("train", "validation")
    ]
    assert not sides[0] & sides[1]
    assert 0 < plan.heldout.sum() < len(plan.heldout)
    if split_by == "camera":
        cameras = plan.catalogue.camera
        assert not set(cameras[plan.heldout].tolist()) & set(cameras[~plan.heldout].tolist())
    for split in ("train", "validation"):
        shards = [shard for shard in plan.shards if shard.split == split]
        assert [shard.index for shard in shards] == list(range(len(shards)))
        assert {shard.num_shards for shard in shards} <= {len(shards)}
        assert all(len(shard.photos) for shard in shards)


def test_classes_come_from_the_training_side() -> None:
    catalogue = catalogue_of([(i, i % 5, 100 * i, 1) for i in range(50)])
    plan = make_plan(catalogue, Options(split_by="camera", validation_fraction=0.4), coded=False)
    makes = next(target for target in plan.targets if target.name == "Make").classes
    seen = {f"Maker {code}" for code in range(5)}
    held = {
        catalogue.cameras[code].replace("Camera", "Maker")
        for code in plan.catalogue.camera[plan.heldout].tolist()
    }
    assert held
    assert set(makes) == (seen - held) | {"other"}


def test_columns_keep_what_was_added() -> None:
    catalogue = catalogue_of([(9, 1, 5, 3), (4, 0, 6, 2)])
    assert catalogue.photo.tolist() == [9, 4]
    assert [catalogue.cameras[code] for code in catalogue.camera] == ["Camera 1", "Camera 0"]
    assert catalogue.values["ISO"].tolist() == [100.0, 100.0]
    assert np.isnan(catalogue.values["FNumber"]).all()
    assert [catalogue.words["Make"][code] for code in catalogue.values["Make"]] == [
        "Maker 1",
        "Maker 0",
    ]
    assert catalogue.values["Flash"].tolist() == [-1, -1]
    assert catalogue.skipped_windows == {"flat": 2}
    assert catalogue.num_windows.tolist() == [3, 2]
    for kept in (catalogue, catalogue.select(np.array([False, True]))):
        assert kept.windows_of(len(kept) - 1).tolist() == [[0, 1, 9], [256, 1, 9]]
        assert kept.values_of(len(kept) - 1) == {"ISO": 100.0, "Make": "Maker 0"}
    more = catalogue.with_rejects("duplicate", [(f"{i}.jpg", "a copy") for i in range(9)])
    assert more.rejects == {"duplicate": 9}
    assert len(more.examples["duplicate"]) == 5
    assert not catalogue.rejects
