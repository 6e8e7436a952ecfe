// node --import build/test/support/on_device.js: where a test names no device, its pipelines compute on
// TORCHREEL_TEST_DEVICE, in float32, which the expectations are for.
import { TextToVideoPipeline } from '#dist/pipeline.js'

const device = process.env.TORCHREEL_TEST_DEVICE
const load = TextToVideoPipeline.fromPretrained
TextToVideoPipeline.fromPretrained = (model, options) =>
  load.call(TextToVideoPipeline, model, { device, dtype: 'float32', ...options })
