"""SSHSNet (Huang et al. 2023) as a study to step through: 19 spine structures in sagittal T2 MR volumes."""
