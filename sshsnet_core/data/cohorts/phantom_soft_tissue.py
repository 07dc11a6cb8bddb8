"""What surrounds the spine: abdomen, vessels, muscle, fat and skin; and what fills its canal."""

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter1d

from sshsnet_core.data.cohorts.phantom_noise import Array
from sshsnet_core.data.cohorts.phantom_spine import Plane, Spine
from sshsnet_core.data.cohorts.phantom_tissues import Tissue


class SoftTissue:
    """Everything outside spine and canal; painted first."""

    def __init__(self, rng: Generator, spine: Spine, plane: Plane) -> None:
        self.s, self.r, self.size = plane.s, plane.r, spine.size
        self.wall = spine.along(spine.wall, plane.s)
        self.half_width = np.interp(plane.s, spine.middle, spine.width / 2).astype(np.float32)
        self.columns = plane.columns[None, :]
        self.fascia, self.skin = (line[:, None] for line in _back(rng, spine, plane))
        self.posterior = self.r > self.wall + 1
        thickness = np.minimum(0.22 * (float(spine.upper[5]) - self.s), self.wall + 2)  # from L1 downwards
        self.psoas = (np.abs(self.r) < thickness) & (self.s > -5)
        # Vessels taper off below the bifurcation in front of L4.
        self.vessel_share = np.clip((self.s - float(spine.middle[2])) / 14, 0, 1)
        self.aorta = rng.uniform(8, 16) * rng.choice([1, -1], p=[0.9, 0.1]), rng.uniform(6.5, 10)
        self.vena_cava = -self.aorta[0], rng.uniform(7, 11)
        self.liver = rng.uniform(25, 95), rng.uniform(-20, 25)  # its lower edge (rows) and its left edge (x)
        self.rows = plane.rows[:, None]
        behind_wall = self.r - self.wall
        self.foramina = (behind_wall > -1) & (behind_wall < 12) & (self.s > -20)
        nearest = spine.upper - 0.3 * spine.height  # a root leaves below the pedicle of its own vertebra
        root = nearest[np.abs(self.s[self.foramina, None] - nearest).argmin(1)]
        self.roots = np.zeros_like(self.foramina)
        away = np.square((self.s[self.foramina] - root) / 3.2) + np.square((behind_wall[self.foramina] - 5.5) / 2.6)
        self.roots[self.foramina] = away < 1

    def paint(self, x: Array, grain: Array, tissue: Array) -> None:
        """Fill ``tissue`` (H, W) for the plane whose pixels lie at ``x`` (H, W)."""
        side, behind = np.abs(x), self.r + self.wall
        tissue[:] = Tissue.ABDOMEN
        edge = self.liver[0] - 0.25 * np.maximum(behind + 60, -80) + 3 * grain
        tissue[(self.rows < edge) & (x < self.liver[1]) & (behind < -14)] = Tissue.LIVER
        tissue[(behind < 0) & (behind > -4 - grain) & (side < self.half_width)] = Tissue.VISCERAL_FAT
        self._vessels(x, behind, tissue)
        tissue[self.psoas & (side > 0.92 * self.half_width)] = Tissue.PSOAS
        tissue[self.posterior] = Tissue.MUSCLE
        tissue[self.posterior & (side < 5 + 0.8 * grain)] = Tissue.INTERSPINOUS
        foramen = self.foramina & (side > 8) & (side < 21)
        tissue[foramen] = Tissue.FORAMEN
        tissue[foramen & self.roots] = Tissue.NERVE
        tissue[(self.columns > self.fascia - 1.8) & self.posterior & (side < 14)] = Tissue.LIGAMENT
        tissue[self.columns > self.fascia] = Tissue.SUBCUTANEOUS_FAT
        tissue[self.columns > self.skin - 1.6] = Tissue.SKIN
        tissue[self.outside] = Tissue.AIR

    @property
    def outside(self) -> Array:
        """Air behind the back, bool (H, W)."""
        return np.broadcast_to(self.columns > self.skin, self.s.shape)

    def _vessels(self, x: Array, behind: Array, tissue: Array) -> None:
        """Aorta and vena cava with flow void, on the bodies down to L4."""
        for centre, radius, flat in ((*self.aorta, 1.0), (*self.vena_cava, 0.7)):
            if np.abs(x - centre).min() < radius:
                inside = np.square((x - centre) / radius) + np.square((behind + flat * radius + 3) / (flat * radius))
                tissue[inside < self.vessel_share] = Tissue.VESSEL


def _back(rng: Generator, spine: Spine, plane: Plane) -> tuple[Array, Array]:
    """Columns (mm) of the lumbodorsal fascia and of the skin at every row: behind the tips of the spinous processes."""
    spacing = float(plane.rows[1] - plane.rows[0])
    below = plane.rows - np.interp(0, spine.arc, spine.row)  # distance below the top of the sacrum
    waistline = np.interp(np.minimum(below, 12), below, plane.axis)
    waistline = waistline + np.maximum(below - 12, 0) * rng.uniform(0.05, 0.35)
    fascia = gaussian_filter1d(waistline, 22 / spacing, mode="nearest") + rng.uniform(66, 74) * spine.size
    fascia = gaussian_filter1d(fascia - np.clip(0.18 * below, 0, 16), 12 / spacing, mode="nearest")
    fat = rng.uniform(5, 16) * (0.6 + 0.7 * np.exp(-np.square(below / 75)))
    skin = gaussian_filter1d(fascia + fat, 35 / spacing, mode="nearest")
    return np.minimum(fascia, skin - 3).astype(np.float32), skin.astype(np.float32)


class Canal:
    """Thecal sac with cord, cauda equina and CSF, epidural fat behind it, and the ligaments that line it."""

    def __init__(self, rng: Generator, spine: Spine, plane: Plane) -> None:
        self.near = np.flatnonzero(np.abs(plane.r - spine.along(spine.canal_centre, plane.s)).ravel() < 22 * spine.size)
        self.s = plane.s.ravel()[self.near]
        self.radius = spine.along(spine.canal_radius, self.s)
        self.offset = plane.r.ravel()[self.near] - spine.along(spine.canal_centre, self.s)
        end, taper = spine.conus, 25 * spine.size
        self.cord = np.interp(self.s, [end - taper, end, end + taper], [0.2, 2.2, 4.4]).astype(np.float32) * spine.size
        self.conus = end
        self.sac_end = rng.uniform(-66, -42) * spine.size
        self.sac_share = np.clip((self.s - self.sac_end) / 18, 0, 1)  # it ends in a cone
        arches = (spine.middle - 0.38 * np.maximum(spine.height, 25 * spine.size))[None, :]
        nearest = np.abs(self.s[:, None] - arches).min(1) if self.s.size else self.s
        # Fat fills the recess between two arches; towards the sacrum there is more of it.
        self.fat_depth = np.clip(0.45 * nearest, 0, 6) + np.clip(2 - 0.06 * self.s, 0, 5)
        self.nerves = rng.uniform(-0.15, 0.25)

    def paint(self, x: Array, grain: Array, streaks: Array, tissue: Array) -> Array:
        """Draw the plane at ``x`` (H, W) into ``tissue`` (H, W); returns where the canal is, bool (H, W)."""
        x, grain, streaks = (field.ravel()[self.near] for field in (x, grain, streaks))
        depth = self.offset / self.radius
        q = np.square(depth) + np.square(x / (1.42 * self.radius))
        sac = q < self.sac_share
        material = tissue.ravel()[self.near]
        behind = self.offset - 0.55 * self.radius
        fat = (behind > 0) & (behind < 0.45 * self.radius + self.fat_depth) & (np.abs(x) < 8 - 0.7 * behind)
        fat |= (q < 1.5) & (self.s < 8) & (self.s > 2.2 * self.sac_end)
        material[fat] = Tissue.FAT
        material[(q < 1.25) & (q > 0.98) & (self.s > self.sac_end) & (self.offset < 0)] = Tissue.LIGAMENT
        material[sac] = Tissue.CSF
        cauda = sac & (self.s < self.conus + 4) & (q < 0.85) & (depth + 0.45 * streaks > self.nerves + 0.1)
        material[cauda] = Tissue.CAUDA
        cord = np.square((self.offset + 0.08 * self.radius) / self.cord) + np.square(x / (1.15 * self.cord)) < 1
        material[sac & cord & (self.s > self.conus - 24)] = Tissue.CORD
        tissue.ravel()[self.near] = material
        canal = np.zeros(tissue.shape, bool)
        canal.ravel()[self.near[(q < 1.05) | (fat & (behind < 0.45 * self.radius + 1))]] = True
        return canal
