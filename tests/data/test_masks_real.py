"""The kind of data "masks" on real images and masks: CamVid and TGS salt."""

from foveate.data import open_data
from foveate.spec import DataSpec


def opened(root, **options):
    return open_data(DataSpec(kind="masks", source=str(root), options=options))


def linked(source, root, folders, count):
    """The first files of these folders, as links."""
    for name in folders:
        (root / name).mkdir(parents=True)
        for file in sorted((source / name).iterdir())[:count]:
            (root / name / file.name).symlink_to(file)
    return root


def test_camvid_and_salt_open(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    source = shared / "data" / "camvid"
    folders = [f"{part}/{what}" for part in ("train", "val", "test") for what in ("images", "labels")]
    camvid = opened(linked(source, tmp_path / "camvid", folders, 4), ignore=[11])
    assert (camvid.inputs, len(camvid.targets["mask"].names), len(camvid.validation)) == ((3, 240, 320), 11, 4)
    assert camvid.about["image sizes"] == "320×240 to 480×360 pixels (width × height)"
    salt = opened(linked(shared / "data" / "seg_salt_tgs", tmp_path / "salt", ("images", "masks"), 12))
    assert (salt.inputs, salt.targets["mask"].names) == ((3, 101, 101), ("0", "1"))
    assert salt.train.batch([0, 1], (0, 0)).targets["mask"].shape == (2, 101, 101)
