"""Small copies of the trees that public benchmarks unpack to; where each is described stands in
docs/labelled.md."""

from pathlib import Path

import pytest

from data_pipelines import layouts
from data_pipelines.errors import UserError
from data_pipelines.labelled import find_test_sets, labelled_images
from data_pipelines.layouts import LAYOUTS, ClassFolder, Layout


def tree(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def sets(root: Path, layout: str = "") -> dict[str, tuple[list[str], list[str]]]:
    """Test set -> names of its photographs and of its generated images, without extensions."""
    return {
        s.name: ([p.stem for p in s.real], [p.stem for p in s.generated])
        for s in find_test_sets(root, layout)
    }


def pair(folder: str, real: str = "0_real", fake: str = "1_fake") -> list[str]:
    """One image of each class, both named after the folder."""
    stem = folder.replace("/", "-")
    return [f"{folder}/{real}/{stem}-r.png", f"{folder}/{fake}/{stem}-f.png"]


def of(*folders: str) -> tuple[list[str], list[str]]:
    """What `sets` says of a test set of these pairs."""
    stems = sorted(folder.replace("/", "-") for folder in folders)
    return [f"{stem}-r" for stem in stems], [f"{stem}-f" for stem in stems]


def test_genimage(tmp_path, caplog):
    folders = ["ADM/train", "ADM/val", "Stable Diffusion V1.4/train", "Stable Diffusion V1.4/val"]
    for folder in folders:
        tree(tmp_path, *pair(folder, "nature", "ai"))
    assert sets(tmp_path) == {
        "ADM": of("ADM/train", "ADM/val"),
        "Stable Diffusion V1.4": of("Stable Diffusion V1.4/train", "Stable Diffusion V1.4/val"),
    }
    assert "ADM: one test set of train and val; --config.data.layout=NAME:val" in caplog.text
    caplog.clear()
    assert sets(tmp_path, "genimage:val") == {
        "ADM": of("ADM/val"),
        "Stable Diffusion V1.4": of("Stable Diffusion V1.4/val"),
    }
    assert not caplog.text


def test_genimage_as_its_archives_unpack(tmp_path):
    tree(tmp_path, *pair("BigGAN/imagenet_ai_0419_biggan/val", "nature", "ai"))
    tree(tmp_path, *pair("glide/imagenet_glide/val", "nature", "ai"))
    assert sets(tmp_path) == {
        "BigGAN": of("BigGAN/imagenet_ai_0419_biggan/val"),
        "glide": of("glide/imagenet_glide/val"),
    }


def test_the_test_set_of_cnndetection(tmp_path):
    folders = ["progan/airplane", "progan/cat", "biggan", "whichfaceisreal"]
    for folder in folders:
        tree(tmp_path / "CNN_synth_testset", *pair(folder))
    assert sets(tmp_path / "CNN_synth_testset") == {
        "biggan": of("biggan"),
        "progan": of("progan/airplane", "progan/cat"),
        "whichfaceisreal": of("whichfaceisreal"),
    }


def test_forensynths_with_its_training_set(tmp_path):
    test = ["test/progan/cat", "test/stylegan2/car", "test/whichfaceisreal"]
    for folder in [*test, "train/airplane", "train/bird"]:
        tree(tmp_path, *pair(folder))
    assert sets(tmp_path, "forensynths:test") == {
        "test/progan": of("test/progan/cat"),
        "test/stylegan2": of("test/stylegan2/car"),
        "test/whichfaceisreal": of("test/whichfaceisreal"),
    }
    assert list(sets(tmp_path))[-2:] == ["train/airplane", "train/bird"]


UFD = [
    *("imagenet/0_real/i.jpg", "laion/0_real/l0.jpg", "laion/0_real/l1.jpg"),
    *("guided/1_fake/g.png", "ldm_200/1_fake/d.png", "dalle/1_fake/e.png"),
]
IN_UFD = {
    "dalle": (["l0", "l1"], ["e"]),
    "guided": (["i"], ["g"]),
    "ldm_200": (["l0", "l1"], ["d"]),
}


def test_universal_fake_detect_has_real_and_fake_under_different_parents(tmp_path):
    assert sets(tree(tmp_path / "diffusion_datasets", *UFD)) == IN_UFD
    images = labelled_images(find_test_sets(tmp_path / "diffusion_datasets"))
    assert sorted(image.path.stem for image in images) == ["d", "e", "g", "i", "l0", "l1"]
    assert [image.path.stem for image in images if image.label] == ["e", "g", "d"]


def test_universal_fake_detect_beside_its_gans_and_among_them(tmp_path):
    beside = tree(tmp_path / "test", *(f"diffusion_datasets/{name}" for name in UFD))
    tree(beside, *pair("progan/cat"), *pair("san"))
    gans = {"progan": of("progan/cat"), "san": of("san")}
    assert sets(beside) == {f"diffusion_datasets/{k}": v for k, v in IN_UFD.items()} | gans
    among = tree(tmp_path / "flat", *UFD, *pair("progan/cat"), *pair("san"))
    assert sets(among) == IN_UFD | gans


def test_universal_fake_detect_without_its_photographs(tmp_path):
    root = tree(tmp_path, *(name for name in UFD if "imagenet" not in name))
    with pytest.raises(UserError, match=r"guided/1_fake: no photographs .* in imagenet/0_real"):
        find_test_sets(root)


def test_chameleon(tmp_path):
    tree(tmp_path / "Chameleon", *pair("test"))
    assert sets(tmp_path / "Chameleon") == {"test": of("test")}


def test_aigibench(tmp_path):
    for folder in ["CommunityAI", "SocialRF", "FLUX1-dev"]:
        tree(tmp_path, *pair(f"test/{folder}"))
    tree(tmp_path, *pair("train/car"), *pair("train/sdv1.4"), *pair("val/car"))
    assert list(sets(tmp_path)) == [
        *("test/CommunityAI", "test/FLUX1-dev", "test/SocialRF"),
        *("train/car", "train/sdv1.4", "val/car"),
    ]
    assert list(sets(tmp_path / "test")) == ["CommunityAI", "FLUX1-dev", "SocialRF"]


def test_wildrf(tmp_path):
    tree(tmp_path, *pair("train"), *pair("val"))
    for platform in ["reddit", "twitter", "facebook"]:
        tree(tmp_path, *pair(f"test/{platform}"))
    names = ["test/facebook", "test/reddit", "test/twitter"]
    assert list(sets(tmp_path)) == [*names, "train", "val"]
    assert list(sets(tmp_path, "wildrf:test")) == names
    assert list(sets(tmp_path, "pairs")) == ["test", "train", "val"]


def test_drct_2m_beside_mscoco(tmp_path):
    tree(tmp_path, "MSCOCO/val2017/c.jpg", "MSCOCO/train2017/t.jpg")
    for model in ["sd-turbo", "stable-diffusion-v1-4"]:
        tree(tmp_path, f"DRCT-2M/{model}/val2017/{model}.png", f"DRCT-2M/{model}/train2017/u.png")
    assert sets(tmp_path, "drct_2m:val2017") == {
        "sd-turbo": (["c"], ["sd-turbo"]),
        "stable-diffusion-v1-4": (["c"], ["stable-diffusion-v1-4"]),
    }
    assert sets(tmp_path)["sd-turbo"] == (["t", "c"], ["u", "sd-turbo"])


@pytest.mark.parametrize("base", ["", "synthbuster/"])
def test_synthbuster_and_raise(tmp_path, base, caplog):
    tree(tmp_path, "real_RAISE_1k/r0.png", "real_RAISE_1k/r1.png", "prompts.csv")
    tree(tmp_path, f"{base}dalle3/d.png", f"{base}midjourney-v5/m.png", "licences/a.png")
    assert sets(tmp_path) == {
        "dalle3": (["r0", "r1"], ["d"]),
        "midjourney-v5": (["r0", "r1"], ["m"]),
    }
    assert "licences: left out" in caplog.text


def test_a_folder_that_is_only_named_like_a_part_is_none(tmp_path):
    tree(tmp_path, *pair("raise", "real", "fake"), *pair("dalle2", "real", "fake"))
    assert sets(tmp_path) == {"raise": of("raise"), "dalle2": of("dalle2")}


def test_community_forensics_as_files_of_one_s_own(tmp_path):
    tree(tmp_path, "ImageNet/real/i.jpg", "LAION/real/l.png", "flux/fake/f.png", "sd15/fake/s.png")
    tree(tmp_path, *pair("both", "real", "fake"))
    with pytest.raises(UserError, match=r"one class only.* community_forensics"):
        find_test_sets(tmp_path)
    assert sets(tmp_path, "community_forensics") == {
        "both": of("both"),
        "flux": (["i", "l"], ["f"]),
        "sd15": (["i", "l"], ["s"]),
    }


def test_community_forensics_is_parquet(tmp_path):
    tree(tmp_path, "data/CompEval-00000-of-00100.parquet")
    with pytest.raises(UserError, match=r"write the images that Parquet files hold out"):
        find_test_sets(tmp_path)


def test_what_macos_adds_to_archives_is_no_test_set(tmp_path):
    tree(tmp_path, *pair("biggan"), "__MACOSX/biggan/0_real/._a.png", "biggan/0_real/._a.png")
    assert sets(tmp_path) == {"biggan": of("biggan")}


def test_two_layouts_at_once_leave_a_choice(tmp_path):
    tree(tmp_path, *UFD, "real_RAISE_1k/r.png", "dalle3/d.png")
    with pytest.raises(UserError, match=r"universal_fake_detect and as synthbuster; choose one by"):
        find_test_sets(tmp_path)
    assert set(sets(tmp_path, "universal_fake_detect")) == set(IN_UFD)


def test_what_cannot_be_laid_out_names_the_layouts(tmp_path):
    tree(tmp_path, "photos/a.png", "midjourney/b.png")
    with pytest.raises(UserError) as error:
        find_test_sets(tmp_path)
    for name in ("0_real/1_fake", "nature/ai", "CSV", *LAYOUTS.names()):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("genimagr", "layout of labelled folders 'genimagr' is not known; known are pairs, splits"),
        ("wildrf", "no labelled images found in the layout wildrf"),
        ("pairs:validation", "no folder 'validation' has labelled images of both classes"),
    ],
)
def test_a_layout_that_does_not_fit(tmp_path, layout, message):
    tree(tmp_path, *pair("ADM/val", "nature", "ai"))
    with pytest.raises(UserError, match=message):
        find_test_sets(tmp_path, layout)


def test_half_a_part_is_refused(tmp_path):
    tree(tmp_path, *pair("a"), "b/val/0_real/r.png", "b/train/1_fake/f.png")
    with pytest.raises(UserError, match="one class only"):
        find_test_sets(tmp_path)


def test_one_s_own_layout(tmp_path, monkeypatch):
    def find(directory: Path) -> list[ClassFolder]:
        return [ClassFolder(directory / name, "mine", label) for label, name in enumerate("pq")]

    monkeypatch.setattr(layouts, "LAYOUTS", type(LAYOUTS)("layout", {"mine": Layout(find)}))
    tree(tmp_path, "p/a.png", "q/b.png")
    assert sets(tmp_path, "mine") == {"mine": (["a"], ["b"])}
