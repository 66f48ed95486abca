#pragma once

#include "cpu/isa.h"

// `planes` receives the energy of each plane (n, c, z).
MASR_CPU_KERNEL(
    void diffusion_energy(const View& field, const double (&weight)[3], double* planes, const View& gradient);
    void bending_energy(const View& field, const double (&weight)[3][3], double* planes, const View& gradient);)
