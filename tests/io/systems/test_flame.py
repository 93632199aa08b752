"""Tests of flam3's .flame files: affine transforms, colors, and errors that name unsupported features."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fractalops import IFS
from fractalops.errors import InputError
from fractalops.io import read_systems, write_systems
from fractalops.io.notices import collect_notices
from tests.support.system_files import FLAME, assert_equal, assert_refused, random_system, write

NUMBER = r"-?\d+(\.\d+)?(e[+-]?\d+)?"
# The written attributes of a flame and of a transform, all of which flam3 3.1 reads, and their forms.
FLAME_FORMS = {
    "name": r"\S.*",
    "time": NUMBER,
    "size": r"\d+ \d+",
    "center": f"{NUMBER} {NUMBER}",
    "scale": NUMBER,
    "background": r"[01] [01] [01]",
    "brightness": NUMBER,
    "gamma": NUMBER,
    "vibrancy": NUMBER,
    "quality": NUMBER,
    "palette_mode": "step|linear",
}
TRANSFORM_FORMS = {
    "weight": NUMBER,
    "color": r"0(\.\d+)?|1(\.0)?",
    "color_speed": NUMBER,
    "symmetry": NUMBER,
    "linear": NUMBER,
    "coefs": " ".join([NUMBER] * 6),
    "opacity": NUMBER,
}


def check_schema(path: Path) -> list[ElementTree.Element]:
    """Return the flames of a file after checking their form."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "flames"
    assert {child.tag for child in root} == {"flame"}
    for flame in root:
        check_form(flame, FLAME_FORMS)
        *transforms, palette = flame
        assert transforms
        assert palette.tag == "palette"
        assert palette.attrib == {"count": "256", "format": "RGB"}
        assert re.fullmatch("[0-9A-F]{1536}", "".join((palette.text or "").split()))
        for transform in transforms:
            assert transform.tag == "xform"
            check_form(transform, TRANSFORM_FORMS)
            assert list(transform) == []
        assert sum(float(transform.attrib["weight"]) for transform in transforms) > 0
    return list(root)


def check_form(element: ElementTree.Element, forms: dict[str, str]) -> None:
    assert element.attrib.keys() == forms.keys()
    for name, text in element.attrib.items():
        assert re.fullmatch(forms[name], text), (name, text)


def place_color(flame: ElementTree.Element, color: float) -> tuple[int, int, int]:
    """Return the palette's color at `color`. Check that it is the same by steps (flam3) and by rounding (others)."""
    digits = "".join((flame[-1].text or "").split())
    step, rounded = min(int(color * 256), 255), round(color * 255)
    assert digits[6 * step : 6 * step + 6] == digits[6 * rounded : 6 * rounded + 6]
    red, green, blue = bytes.fromhex(digits[6 * step : 6 * step + 6])
    return red, green, blue


def test_the_transforms_and_colors_of_flames(tmp_path: Path) -> None:
    path = write(tmp_path, "a.flame", FLAME)
    with collect_notices() as notices:
        systems = read_systems(path)
    assert list(systems) == ["a fern", "old"]
    fern = systems["a fern"]
    # The coefs a b c d e f mean x' = a x + c y + e and y' = b x + d y + f. Systems use the order (y, x).
    assert fern.matrix.tolist() == [[[0.16, 0], [0, 0]], [[0.85, 0.04], [-0.04, 0.85]], [[0.22, -0.23], [0.26, 0.2]]]
    assert fern.offset.tolist() == [[0, 0], [-1.6, 0], [-1.6, 0]]
    assert fern.probabilities.tolist() == [0.1, 8.5, 0.7]
    assert fern.color is not None
    assert (fern.color * 255).tolist() == [[0, 255, 128], [128, 127, 128], [255, 0, 128]]
    assert systems["old"].color is None
    assert systems["old"].offset.tolist() == [[0, 0], [0, 0.5]]
    assert notices[str(path)] == [
        "line 3: each map gets a fixed color, but flam3 mixes the colors of successive maps",
        "line 11: the flame is read without colors, as its palette is not in the file",
    ]


@pytest.mark.parametrize(
    "palette",
    [
        "".join(f'<color index="{i}" rgb="{i} {255 - i} 128"/>' for i in range(256)),
        '<color index="0" rgb="0 255 128"/><color rgb="255 0 128" index="255"/>',  # flam3 interpolates between them
        '<colors count="256" data="' + "".join(f"00{i:02X}{255 - i:02X}80" for i in range(256)) + '"/>',
        '<palette count="256" format="RGBA">'
        + "".join(f"{i:02x}{255 - i:02x}80FF " for i in range(256))
        + "</palette>",
    ],
)
def test_the_forms_of_palettes(palette: str, tmp_path: Path) -> None:
    text = re.sub("<palette.*?</palette>", palette, FLAME, flags=re.DOTALL)
    color = read_systems(write(tmp_path, "a.flame", text))["a fern"].color
    assert color is not None
    torch.testing.assert_close(color * 255, torch.tensor([[0, 255, 128], [128, 127, 128], [255, 0, 128]]).double())


# The text of the file that is replaced, its replacement, and the error.
REFUSALS = {
    "a variation": (
        'linear="0.5"',
        'linear="0.5" spherical="0.1"',
        "line 5: transform 2: the variation 'spherical' ",
    ),
    "a variation of a plugin": ('linear="0.5"', 'pre_blur="x"', "line 5: transform 2: the variation 'pre_blur' is not"),
    "a numbered variation": ('var1="0"', 'var1="13"', "line 12: transform 1: variation 13 is not supported"),
    "a listed variation": ('var="1 0 0"', 'var="1 0 2"', "line 13: transform 2: variation 2 is not supported"),
    "xaos": ('chaos="1 1 1"', 'chaos="1 0 1"', "line 6: transform 3: xaos (chaos) is not supported"),
    "opacity": ('opacity="1"', 'opacity="0.5"', "line 5: transform 2: an opacity of 0.5 is not supported"),
    "a hidden transform": ('opacity="1"', 'plotmode="off"', "line 5: transform 2: an opacity of 0 is not supported"),
    "a final transform": ("<palette", '<finalxform coefs="1 0 0 1 0 0"/><palette', "line 7: a final transform is not"),
    "a symmetry": ("<palette", '<symmetry kind="3"/><palette', "line 7: a symmetry is not supported"),
    "a motion": ('opacity="1"/>', '><motion linear="1"/></xform>', "line 5: a motion is not supported"),
    "one transform alone": ('scale="48"', 'soloxform="1"', "line 3: showing only one transform (soloxform)"),
    "a negative weight": (
        'weight="8.5"',
        'weight="-8.5"',
        "line 5: transform 2: weight must not be negative, got -8",
    ),
    "no weight": (' weight="1"', "", "line 11: probabilities must be finite, non-negative and not all zero"),
    "NaN": ('weight="8.5"', 'weight="nan"', "line 5: transform 2: weight: 'nan' is not a number"),
    "too large a number": ("-3.2", "-3e999", "line 5: transform 2: coefs: the number -3e999 is too large"),
    "a missing number": (" -3.2", "", "line 5: transform 2: coefs must contain 6 numbers, got 5"),
    "no transforms": ('xform weight="1" ', "other ", "line 11: a flame must have at least one transform"),
    "a short palette": ("00ff80", "", "line 7: the palette is damaged"),
    "a palette of other digits": ("00ff80", "00gg80", "line 7: the palette is damaged"),
    "a document type": (
        "<Flames",
        '<!DOCTYPE x [<!ENTITY a "b">]><Flames',
        "line 2: a flame must not have a document type",
    ),
    "an element that does not close": ("</Flames>", "", "line 17: it is not well-formed XML (no element found)"),
    "no flame": ("flame", "game", "it contains no system"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    old, new, reason = REFUSALS[case]
    assert old in FLAME
    path = write(tmp_path, "a.flame", FLAME.replace(old, new))
    assert_refused(path, reason)


def test_a_billion_laughs(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(10))
    text = f'<!DOCTYPE flame [<!ENTITY a0 "ha">{entities}]><flame name="&a10;"/>'
    with pytest.raises(InputError, match="document type"):
        read_systems(write(tmp_path, "a.flame", text))


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("maps", [1, 3, 63, 300])
def test_written_flames_are_valid_and_draw_the_same(maps: int, channels: int | None, tmp_path: Path) -> None:
    system = random_system(maps, channels=channels, dtype=torch.float32, name="a <fern> & 'more' ü")
    path = tmp_path / "a.flame"
    with collect_notices() as notices:
        write_systems(path, system)
    (flame,) = check_schema(path)
    assert flame.attrib["name"] == system.name
    # flam3's images of a point (x, y), with x to the right and y down.
    row, column = 0.375, -1.25
    images = system.matrix.double() @ torch.tensor([row, column]).double() + system.offset.double()  # (N, 2)
    for number, transform in enumerate(flame[:-1]):
        a, d, b, e, c, f = map(float, transform.attrib["coefs"].split())
        x, y = a * column + b * row + c, d * column + e * row + f
        torch.testing.assert_close(torch.tensor([y, x], dtype=torch.float64), images[number], rtol=1e-12, atol=1e-12)
        assert float(transform.attrib["weight"]) == float(system.probabilities[number])
        shown = torch.tensor(place_color(flame, float(transform.attrib["color"])))
        if system.color is None:
            assert shown.tolist() == [255, 255, 255]
        elif maps <= 256:
            assert torch.equal(shown, (system.color[number] * 255).round().long().expand(3))
        else:
            assert (shown - system.color[number] * 255).abs().max() <= 24  # 256 colors for 300 maps
    if maps <= 256 and channels in (None, 3):
        read = read_systems(path)[system.name]
        assert_equal(read if read.color is None else replace(read, color=read.color.float()), system)
        assert notices == {}
    width = float(flame.attrib["scale"])
    assert 0 < width < 1e6


def test_colors_of_learned_systems(tmp_path: Path) -> None:
    """Learned colors are no multiples of 1/255, so they are rounded."""
    learned = IFS(2, 7, channels=3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert learned.color is not None
        learned.color.copy_(torch.linspace(-3, 3, learned.color.numel()).view_as(learned.color))
    with collect_notices() as notices:
        write_systems(tmp_path / "a.flame", learned)
    assert notices[str(tmp_path / "a.flame")] == ["colors are rounded: a flame stores 256 colors of 8 bits per channel"]
    assert len(check_schema(tmp_path / "a.flame")) == 2
    read = read_systems(tmp_path / "a.flame")
    assert list(read) == ["0", "1"]
    for number, system in enumerate(read.values()):
        expected = learned.system(number)
        assert_equal(replace(system, color=None), replace(expected, color=None))
        assert system.color is not None
        assert expected.color is not None
        assert (system.color - expected.color).abs().max() <= 0.5 / 255 + 1e-7


def test_names_that_flames_can_not_hold_stay_unique(tmp_path: Path) -> None:
    path = tmp_path / "a.flame"
    names = ["a\nb", "a_b", "a\tb"]
    systems = [random_system(2, name=name, seed=number) for number, name in enumerate(names)]
    with collect_notices() as notices:
        write_systems(path, systems)
    assert len(notices[str(path)]) == 2
    with collect_notices() as notices:
        read = read_systems(path)
    assert notices == {}
    assert list(read) == ["a_b-2", "a_b", "a_b-3"]
    for system, expected in zip(read.values(), systems, strict=True):
        assert_equal(system, expected)


def test_gray_and_white_flames(tmp_path: Path) -> None:
    gray = random_system(3, channels=1)
    white = replace(gray, color=torch.ones(3, 1))
    write_systems(tmp_path / "a.flame", {"gray": gray, "white": white})
    read = read_systems(tmp_path / "a.flame")
    assert gray.color is not None
    assert_equal(read["gray"], replace(gray, color=gray.color.expand(3, 3)))
    assert read["white"].color is None


def test_what_flames_can_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.flame"
    with pytest.raises(InputError, match=r"cannot save .*a.flame: a flame must be 2-D, .* with 3 dimensions"):
        write_systems(path, random_system(dimensions=3))
    with pytest.raises(InputError, match="with 2 dimensions and 2 color channels"):
        write_systems(path, random_system(channels=2))
    assert list(tmp_path.iterdir()) == []
