/** A safetensors file with this header and this many bytes of numbers. */
export function withHeader(header: Buffer, payload: number, length = BigInt(header.length)): Buffer {
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(length)
  return Buffer.concat([prefix, header, Buffer.alloc(payload)])
}

const f32 = (more: string, shape = '[1]', offsets = '[0,4]') =>
  `{"t":{"dtype":"F32","shape":${shape},"data_offsets":${offsets}${more}}}`
const bytes = (...spans: [number, number][]) =>
  `{${spans.map(([a, b], i) => `"t${i}":{"dtype":"U8","shape":[${b - a}],"data_offsets":[${a},${b}]}`).join()}}`

const texts: Record<string, [header: string, payload: number]> = {
  nothing: ['', 0],
  'no JSON': ['<html>', 0],
  'an array': ['[]', 0],
  'a string': ['"x"', 0],
  'space before it': [' {}', 0],
  'an end too early': [f32('').slice(0, -1), 4],
  'something after its end': ['{}x', 0],
  'a NUL after its end': ['{}\0', 0],
  'a comment': ['{/* */}', 0],
  'a comma too many': ['{"__metadata__":{},}', 0],
  'single quotes': ["{'t':1}", 0],
  'a tensor that is a number': ['{"t":1}', 0],
  'a tensor that is null': ['{"t":null}', 0],
  'an unknown field': [f32(',"x":1'), 4],
  'a field twice': [f32(',"dtype":"F32"'), 4],
  'a tensor twice': [`${f32('').slice(0, -1)},${f32('').slice(1)}`, 4],
  'metadata twice': ['{"__metadata__":{},"__metadata__":{}}', 0],
  'metadata that is no text': ['{"__metadata__":{"a":1}}', 0],
  'metadata within metadata': ['{"__metadata__":{"a":{"b":"c"}}}', 0],
  'no dtype': ['{"t":{"shape":[1],"data_offsets":[0,4]}}', 4],
  'no shape': ['{"t":{"dtype":"F32","data_offsets":[0,4]}}', 4],
  'no offsets': ['{"t":{"dtype":"F32","shape":[1]}}', 4],
  'an unknown dtype': ['{"t":{"dtype":"F128","shape":[1],"data_offsets":[0,16]}}', 16],
  'a dtype in lower case': ['{"t":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}', 4],
  'a negative size': [f32('', '[-1]'), 4],
  'half a size': [f32('', '[1.5]'), 6],
  'a size in quotes': [f32('', '["1"]'), 4],
  'a size with an exponent': [f32('', '[1e0]'), 4],
  'a size over 2^53': [f32('', '[9007199254740993]'), 4],
  'a size over 2^64': [f32('', '[18446744073709551617]'), 4],
  'sizes whose product overflows': [f32('', '[4611686018427387904,4]'), 4],
  'sizes whose product overflows to the right one': [f32('', '[2147483648,2147483648,4,1]'), 4],
  'nine dimensions': [f32('', '[1,1,1,1,1,1,1,1,1]'), 4],
  'one offset': [f32('', '[1]', '[0]'), 4],
  'three offsets': [f32('', '[1]', '[0,4,8]'), 4],
  'reversed offsets': [f32('', '[1]', '[4,0]'), 4],
  'negative offsets': [f32('', '[1]', '[-4,0]'), 4],
  'offsets past the end': [f32('', '[2]', '[0,8]'), 4],
  'offsets near 2^53': [f32('', '[1]', '[9007199254740987,9007199254740991]'), 4],
  'a span that is not the shape’s': [f32('', '[2]'), 4],
  'numbers that no tensor has': [f32(''), 8],
  'numbers without any tensor': ['{}', 4],
  'a hole at the start': [bytes([1, 2]), 2],
  'a hole between': [bytes([0, 1], [2, 3]), 3],
  'an overlap': [bytes([0, 2], [1, 3]), 3],
  'one tensor twice over': [bytes([0, 2], [0, 2]), 2],
  'a name of 1 MB': [`{"${'a'.repeat(1e6)}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0],
  'half a surrogate pair': ['{"\\ud800":{}}', 0],
  'a control character': ['{"\n":{}}', 0],
  'a million tensors': [
    `{${Array.from({ length: 1e6 }, (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`).join()}}`,
    0,
  ],
  'a million brackets': ['{"t":'.repeat(1e6), 0],
  'no number at all': ['{"t":{"dtype":"F32","shape":[],"data_offsets":[,]}}', 4],
}

/** Headers that the format forbids: the mistake, the header, and the number of bytes after it. */
export const malformedHeaders: [name: string, header: Buffer, payload: number][] = [
  ...Object.entries(texts).map(
    ([name, [text, payload]]) => [name, Buffer.from(text), payload] as [string, Buffer, number],
  ),
  ['no UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 0],
  ['overlong UTF-8', Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d]), 0],
]
