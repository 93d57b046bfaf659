/* jacobi.h - eigenvalues and eigenvectors of a small symmetric matrix, the same bits everywhere.
 *
 * Why ours: LAPACK's order of operations depends on build and machine. Cyclic Jacobi with a fixed
 * order of rotations, a fixed stopping rule and fixed signs uses only correctly rounded +, -, *, /
 * and square root. Source: Golub & Van Loan, Matrix Computations, section 8.5. Pure. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"

#define JACOBI_SIZE_MAX 64U
#define JACOBI_SWEEPS_MAX 64U

/* a: symmetric [n x n], destroyed. out_values[n] descending (ties: as they came); out_vectors
 * [n x n]: column j (element i at i * n + j) is the unit eigenvector of out_values[j], its element
 * of largest magnitude (the first of equals) positive. n in 1..JACOBI_SIZE_MAX.
 * ERR_INVALID: a non-finite element, or no convergence; outputs are then undefined. */
MUST_USE enum err jacobi_eigen(uint32_t n, double *a, double *out_values, double *out_vectors);
