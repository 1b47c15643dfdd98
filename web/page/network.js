import {Problem} from './problem.js';

const RUNTIME = new URL('./ort/', import.meta.url);

/** Fetch a file of this page. */
async function fetchFile(name) {
  const response = await fetch(new URL(name, import.meta.url)).catch(() => null);
  if (response?.ok) return response;
  const reason = response ? `the server said ${response.status}` : 'is there a connection?';
  throw new Problem(`${name}, a file of this page, did not load (${reason}). Reload the page to try again.`);
}

/** ONNX Runtime, on one thread: more would need headers that plain hosts of pages do not send. */
async function startRuntime() {
  if (typeof WebAssembly === 'undefined') {
    throw new Problem('This browser has no WebAssembly, or it is switched off, and the network needs it.'
      + ' Try a current Chrome, Edge, Firefox or Safari.');
  }
  try {
    const ort = await import('./ort/ort.wasm.bundle.min.mjs');
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmPaths = {wasm: new URL('ort-wasm-simd-threaded.wasm', RUNTIME).href};
    return ort;
  } catch {
    throw new Problem('ONNX Runtime, which runs the network, did not load. Reload the page to try again.');
  }
}

/**
 * Load a network and what the page must know of it.
 * @param {string} name Of NAME.json, with the settings, and of NAME.onnx.
 * @returns {Promise<{settings: object, run: (input: Float32Array) => Promise<object>, milliseconds: number}>}
 *   `run` takes a normalized image and gives the outputs by name. `milliseconds` is the time of loading.
 */
export async function loadNetwork(name) {
  const start = performance.now();
  const [ort, settings, model] = await Promise.all([
    startRuntime(),
    fetchFile(`${name}.json`).then((response) => response.json()),
    fetchFile(`${name}.onnx`).then((response) => response.arrayBuffer()),
  ]);
  let session;
  try {
    session = await ort.InferenceSession.create(model, {executionProviders: ['wasm']});
  } catch (error) {
    console.error(error);
    throw new Problem(`The network did not start (${error.message}). Reload the page, or try another browser.`);
  }
  const {size} = settings;
  return {
    settings,
    run: (input) => session.run({[session.inputNames[0]]: new ort.Tensor('float32', input, [1, 3, size, size])}),
    milliseconds: performance.now() - start,
  };
}
