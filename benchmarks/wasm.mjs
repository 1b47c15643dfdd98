// Times a network in WebAssembly, with one thread of onnxruntime-web. For each line of its input, which is a number of
// calls, it prints the seconds of the CPU that one of them took. deployment.py starts it:
//     node benchmarks/wasm.mjs FOLDER_OF_NODE_MODULES NETWORK.onnx CHANNELS HEIGHT WIDTH
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'

const [modules, file, ...size] = process.argv.slice(2)
const ort = createRequire(resolve(modules, 'index.js'))('onnxruntime-web')
ort.env.wasm.numThreads = 1
const session = await ort.InferenceSession.create(await readFile(file), { executionProviders: ['wasm'] })
const shape = [1, ...size.map(Number)]
const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 4 * Math.random() - 2)
const images = { [session.inputNames[0]]: new ort.Tensor('float32', data, shape) }

for await (const line of createInterface({ input: process.stdin })) {
  const before = process.cpuUsage()
  for (let i = 0; i < Number(line); i++) await session.run(images)
  const { user, system } = process.cpuUsage(before)
  console.log((user + system) / 1e6 / Number(line))
}
