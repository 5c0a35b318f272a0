// SPDX-License-Identifier: MIT
// The adapter pool: what adapters add to a program's linears, as 16-byte units.
// An adapter begins with an entry for each linear of the program, in its order:
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
// The step says at word ADAPTERS_WORD + t where row t's adapter begins; 0: it has none.
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

/// An entry: nothing where the row has no adapter. CPU drivers run both sides of
/// a condition but leave a loop when no lane wants it: so a rank of 0, not an if.
uvec4 adapter_entry(uint t, uint linear) {
    const uint adapter = LOAD_STEP(ADAPTERS_WORD + t);
    const uvec4 entry = LOAD_ADAPTER(adapter != 0u ? adapter + linear : 0u);
    return adapter != 0u ? entry : uvec4(0u);
}
uint full_rank(uvec4 entry) { return (entry.z & HALVES) != 0u ? 0u : entry.z; }
uint half_rank(uvec4 entry) { return (entry.z & HALVES) != 0u ? entry.z ^ HALVES : 0u; }

/// Of A x of row t for part `part` of a dispatch, in the arena.
uint low_rank_place(uint t, uint part) { return LOW_RANK_UNIT + (t * 3u + part) * 64u; }
