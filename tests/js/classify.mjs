// What transformers.js sees in images, by a repository's `onnx/`: node classify.mjs HOST REPOSITORY CACHE DTYPE IMAGE...
// prints for each image the probabilities of all classes.
import { env, pipeline } from '@huggingface/transformers';

const [host, repository, cache, dtype, ...images] = process.argv.slice(2);
Object.assign(env, { remoteHost: host, cacheDir: cache, allowLocalModels: false });

env.remotePathTemplate = '{model}/resolve/{revision}/onnx/';
const options = dtype === 'default' ? {} : { dtype };
const classify = await pipeline('image-classification', repository, { subfolder: '', ...options });
const answers = [];
for (const image of images) {
    const classes = await classify(image, { top_k: null });
    answers.push(Object.fromEntries(classes.map(({ label, score }) => [label, score])));
}
console.log(JSON.stringify(answers));
