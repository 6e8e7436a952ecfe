/**
 * The quantile function of the symmetric beta distribution Beta(shape, shape), 0 < shape < 1: the x with
 * I_x(shape, shape) = probability. By symmetry x(p) = 1 − x(1 − p), so only x ≤ 1/2 is evaluated. There the power series
 * of the incomplete beta function converges quickly. I_½ = ½ gives its normalisation.
 */
export function symmetricBetaQuantile(probability: number, shape: number): number {
  if (probability <= 0) return 0
  if (probability > 0.5) return 1 - symmetricBetaQuantile(1 - probability, shape)
  const target = 2 * probability * incompleteBeta(0.5, shape)
  let low = 0
  let high = 0.5
  for (let iteration = 0; iteration < 80; iteration++) {
    const middle = (low + high) / 2
    if (incompleteBeta(middle, shape) < target) low = middle
    else high = middle
  }
  return (low + high) / 2
}

/** B_x(shape, shape) = x^shape · Σ (1 − shape)_n / (n! (shape + n)) · x^n, DLMF 8.17.7, for x ≤ 1/2. */
function incompleteBeta(x: number, shape: number): number {
  let sum = 0
  let term = 1
  for (let n = 0; n < 60; n++) {
    sum += term / (shape + n)
    term *= ((1 - shape + n) / (n + 1)) * x
  }
  return x ** shape * sum
}
