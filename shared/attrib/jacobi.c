/* jacobi.c - cyclic Jacobi rotations; see jacobi.h. */
#include "shared/attrib/jacobi.h"

#include <math.h>
#include <stdbool.h>

#include "shared/base/check.h"

/* Off-diagonal energy, relative to the whole, below which a matrix counts as diagonal: eigenvectors
 * are then right to about 1e-12, far beyond the fp32 they are stored in. */
#define CONVERGED 1e-24

/* Sums of squares above and on the diagonal. */
static void energies(uint32_t n, const double *a, double *out_off, double *out_all)
{
    double off = 0.0;
    double all = 0.0;
    for (uint32_t p = 0; p < n; p++) {
        all += a[p * n + p] * a[p * n + p];
        for (uint32_t q = p + 1; q < n; q++) {
            off += a[p * n + q] * a[p * n + q];
        }
    }
    *out_off = off;
    *out_all = all + (off + off);
}

/* Rotates rows and columns p < q so that element (p, q) vanishes (Golub & Van Loan 8.5.2). */
static void rotate(uint32_t n, double *a, double *v, uint32_t p, uint32_t q)
{
    double apq = a[p * n + q];
    if (apq == 0.0) {
        return;
    }
    double theta = (a[q * n + q] - a[p * n + p]) / (apq + apq);
    double magnitude = fabs(theta) + sqrt(theta * theta + 1.0);
    double t = (theta < 0.0 ? -1.0 : 1.0) / magnitude;
    double c = 1.0 / sqrt(t * t + 1.0);
    double s = t * c;
    a[p * n + p] -= t * apq;
    a[q * n + q] += t * apq;
    a[p * n + q] = 0.0;
    a[q * n + p] = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        if (i != p && i != q) {
            double aip = a[i * n + p];
            double aiq = a[i * n + q];
            a[i * n + p] = c * aip - s * aiq;
            a[i * n + q] = s * aip + c * aiq;
            a[p * n + i] = a[i * n + p];
            a[q * n + i] = a[i * n + q];
        }
        double vip = v[i * n + p];
        double viq = v[i * n + q];
        v[i * n + p] = c * vip - s * viq;
        v[i * n + q] = s * vip + c * viq;
    }
}

static void swap_columns(uint32_t n, double *v, uint32_t p, uint32_t q)
{
    for (uint32_t i = 0; i < n; i++) {
        double kept = v[i * n + p];
        v[i * n + p] = v[i * n + q];
        v[i * n + q] = kept;
    }
}

static void fix_sign(uint32_t n, double *v, uint32_t column)
{
    double largest = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        double element = v[i * n + column];
        if (fabs(element) > fabs(largest)) {
            largest = element;
        }
    }
    for (uint32_t i = 0; largest < 0.0 && i < n; i++) {
        v[i * n + column] = -v[i * n + column];
    }
}

enum err jacobi_eigen(uint32_t n, double *a, double *out_values, double *out_vectors)
{
    CHECK(n >= 1);
    CHECK(n <= JACOBI_SIZE_MAX);
    for (uint32_t i = 0; i < n * n; i++) {
        out_vectors[i] = i % (n + 1) == 0 ? 1.0 : 0.0;
    }
    bool converged = false;
    for (uint32_t sweep = 0; sweep < JACOBI_SWEEPS_MAX && !converged; sweep++) {
        double off;
        double all;
        energies(n, a, &off, &all);
        if (!isfinite(all)) {
            return ERR_INVALID;
        }
        converged = off <= CONVERGED * all;
        for (uint32_t p = 0; !converged && p < n; p++) {
            for (uint32_t q = p + 1; q < n; q++) {
                rotate(n, a, out_vectors, p, q);
            }
        }
    }
    if (!converged) {
        return ERR_INVALID;
    }
    for (uint32_t i = 0; i < n; i++) {
        out_values[i] = a[i * n + i];
    }
    for (uint32_t i = 1; i < n; i++) { /* insertion sort: stable, and n is small */
        for (uint32_t j = i; j > 0 && out_values[j] > out_values[j - 1]; j--) {
            double kept = out_values[j];
            out_values[j] = out_values[j - 1];
            out_values[j - 1] = kept;
            swap_columns(n, out_vectors, j, j - 1);
        }
    }
    for (uint32_t j = 0; j < n; j++) {
        fix_sign(n, out_vectors, j);
    }
    return ERR_OK;
}
