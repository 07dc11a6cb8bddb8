import numpy as np

from sshsnet_core.anatomy import by_name
from sshsnet_core.pictures.overview import Surface, isotropic

L4, L3 = by_name("L4").label, by_name("L3").label


def column() -> np.ndarray:
    """L3 over L4, in slices 2 to 5 of 8; L4 reaches farther forward."""
    labels = np.zeros((8, 40, 40), np.uint8)
    labels[2:6, 5:15, 15:30] = L3
    labels[2:6, 20:30, 10:30] = L4
    return labels


def test_voxels_become_cubes_where_the_structures_were() -> None:
    cubes = isotropic(column(), (4.0, 1.0, 1.0))
    assert cubes.shape == (32, 40, 40)
    assert set(np.unique(cubes)) == {0, L3, L4}
    # A voxel beside the middle of each original slice keeps its name, and a slice without any stays empty.
    assert (cubes[10:22, 6:14, 16:29] == L3).all()
    assert (cubes[10:22, 21:29, 11:29] == L4).all()
    assert not cubes[:4].any()
    assert not cubes[28:].any()


def test_an_outline_is_interpolated_between_slices_not_repeated() -> None:
    cone = np.zeros((4, 40, 40), np.uint8)
    for index, half in enumerate((4, 8, 12, 16)):
        cone[index, 20 - half : 20 + half, 20 - half : 20 + half] = L4
    widths = [int((plane[20] > 0).sum()) for plane in isotropic(cone, (4.0, 1.0, 1.0))[2:14]]
    assert max(np.diff(widths)) <= 4
    assert len(set(widths)) > 4


def test_structures_at_the_edge_of_the_volume_stay_in_it() -> None:
    assert (isotropic(np.full((3, 10, 10), L4, np.uint8), (4.0, 1.0, 1.0))[2:-2, 1:-1, 1:-1] == L4).all()
    assert not isotropic(np.zeros((3, 10, 10), np.uint8), (4.0, 1.0, 1.0)).any()


def test_front_and_left_side_show_what_is_nearest() -> None:
    labels = column()
    labels[6, 20:30, 25:30] = L3  # on the patient's left
    (front, seen_in_front), (side, seen_from_left) = Surface(labels, (4.0, 1.0, 1.0)).draw()
    assert front.shape == (40, 32, 3)
    assert side.shape == (40, 40, 3)
    assert (seen_in_front[25, 14], seen_in_front[10, 14], seen_in_front[17, 14]) == (L4, L3, 0)
    assert (seen_from_left[25, 15], seen_from_left[25, 27]) == (L4, L3)
    assert not front[17, 14].any()
    assert (side[25, 12].argmax(), side[25, 12].any()) == (np.argmax(by_name("L4").colour), True)


def test_hidden_structures_uncover_what_lies_behind() -> None:
    labels = column()
    labels[2:6, 20:30, 5:10] = L3  # before L4
    surface = Surface(labels, (4.0, 1.0, 1.0))
    assert surface.draw()[0][1][25, 14] == L3
    assert surface.draw({L4})[0][1][25, 14] == L4
    assert not surface.draw(())[0][0].any()
