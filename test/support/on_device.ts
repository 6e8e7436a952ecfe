// node --import build/test/support/on_device.js: pipelines of tests that name no device compute on TORCHREEL_TEST_DEVICE in
// float32, the dtype of the expected results. With TORCHREEL_TEST_CAPTURE_GRAPH they use recorded steps.
import { TextToVideoPipeline } from '#dist/pipeline.js'

const device = process.env.TORCHREEL_TEST_DEVICE
const captures = Boolean(process.env.TORCHREEL_TEST_CAPTURE_GRAPH)
const load = TextToVideoPipeline.fromPretrained
TextToVideoPipeline.fromPretrained = (model, options) => {
  const captureGraph = captures && options?.offload !== 'sequential'
  return load.call(TextToVideoPipeline, model, { device, dtype: 'float32', captureGraph, ...options })
}
