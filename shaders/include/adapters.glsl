// SPDX-License-Identifier: MIT
// The adapter pool: what adapters add to a program's linears, as 16-byte units. The
// first unit is zeros and nobody's. An adapter begins with an entry for each linear of
// the program, in its order:
//
//   x  first unit of A      y  first unit of B
//   z  rank, a multiple of 4 (0: nothing is added); HALVES set: F16, else F32
//   w  the scale, a float
//
// A[rank, K]: unit c * rank + j has columns c * n to c * n + n - 1 of row j, n = 4
// of F32 and 8 of F16. B[N, rank]: the four rows of quad q in column j are unit
// q * rank + j of F32, and half of unit (q * rank + j) / 2 of F16. Rows and columns
// past the matrices' own are zeros.
//
// Between low_rank.comp, which computes scale A x, and linear.comp, which goes on with
// B, the arena has from low_rank_place() on a head, (B's first unit / 4096, the rest,
// rank, and 1 where B is F16), and behind it the numbers, zeros up to MOST_RANK.
#if M4_ACCESS_TEXEL
layout(set = 0, binding = 7) uniform utextureBuffer adapter_texels;
#define LOAD_ADAPTER(unit) texelFetch(adapter_texels, int(unit))
#else
layout(set = 0, binding = 8, std430) readonly buffer AdapterUnits {
    uvec4 adapter_units[];
};
#define LOAD_ADAPTER(unit) adapter_units[unit]
#endif

const uint HALVES = 1u << 31;
// Of ADAPTER_FORMS: which there are among the rows' adapters.
const uint WITH_HALVES = 1;
const uint WITH_FLOATS = 2;

/// Of row t and part `part` of a dispatch.
uint low_rank_place(uint t, uint part) { return LOW_RANK_UNIT + (t * 3u + part) * 72u; }
