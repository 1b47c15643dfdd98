import {startCamera} from './camera.js';
import {prepare, showImage, showPixels} from './image.js';
import {loadNetwork} from './network.js';
import {copyTemplate, formatPercent, Panel} from './panel.js';
import {Problem} from './problem.js';

const BETWEEN_FRAMES = 150; // milliseconds: fast enough to follow, slow enough to read
const BETWEEN_WORDS = 2000; // a screen reader is given no more than one answer in this time

/** Logits and probabilities of a photograph, and what they took. */
export async function classify(network, source) {
  const start = performance.now();
  const {pixels, input} = prepare(source, network.settings);
  const prepared = performance.now();
  const logits = Array.from((await network.run(input)).logits.data);
  const ran = performance.now();
  const powers = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  const sum = powers.reduce((a, b) => a + b);
  const probabilities = powers.map((power) => power / sum);
  return {pixels, logits, probabilities, preparing: prepared - start, running: ran - prepared};
}

/** Names what is in a photograph, or before the camera. */
export class Classifier extends Panel {
  #stop = null;

  constructor(element) {
    super(element, () => loadNetwork('classifier'));
    this.find('.camera').addEventListener('click', () => {
      if (this.#stop) this.attempt(() => this.close());
      else this.attempt((isCurrent) => this.#watch(isCurrent));
    });
  }

  async show(network, bitmap, name) {
    showImage(this.find('.photograph'), bitmap);
    this.find('.photograph').setAttribute('aria-label', name);
    try {
      this.#draw(network, await classify(network, bitmap));
    } finally {
      bitmap.close(); // or its pixels, 4 bytes each, stay until they are collected
    }
  }

  close() {
    if (!this.#stop) return;
    showImage(this.find('.photograph'), this.find('video')); // the last frame stays
    this.find('.photograph').setAttribute('aria-label', 'the last that the camera saw');
    this.#stop();
    this.#stop = null;
    this.element.classList.remove('watching');
    this.find('.camera').textContent = 'Use the camera';
  }

  /** Name what the camera sees, until something else is asked for. */
  async #watch(isCurrent) {
    const network = await this.ready();
    const video = this.find('video');
    const stop = await startCamera(video);
    if (!isCurrent() || this.element.hidden) return stop(); // it may be allowed when another tab is open
    this.#stop = stop;
    this.element.classList.add('watching');
    this.find('.camera').textContent = 'Stop the camera';
    this.find('.note').textContent = '';
    let said = '';
    let time = -Infinity;
    while (this.#stop === stop) {
      if (!video.srcObject.active) throw new Problem('The camera has stopped. Choose a photograph, or start it again.');
      const answer = await classify(network, video);
      if (this.#stop !== stop) return;
      const name = this.#draw(network, answer);
      if (name !== said && performance.now() - time > BETWEEN_WORDS) {
        said = name;
        time = performance.now();
        this.say(this.sentence);
      }
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_FRAMES));
    }
  }

  /** Draw an answer. Returns its most probable class. */
  #draw({settings: {classes, size}}, {pixels, probabilities, preparing, running}) {
    const [first, second] = classes.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
    const percents = probabilities.map(formatPercent);
    showPixels(this.find('.seen canvas'), pixels, size);
    const bars = this.find('.bars');
    if (!bars.children.length) bars.append(...classes.map(() => copyTemplate('bar')));
    classes.forEach((name, i) => {
      const [label, bar, percent] = bars.children[i].children;
      label.textContent = name;
      bar.style.setProperty('--part', probabilities[i]);
      percent.textContent = percents[i];
      bars.children[i].classList.toggle('top', i === first);
    });
    this.answer(classes[first], `${percents[first]}, or ${classes[second]} ${percents[second]}`);
    this.time({preparing, running});
    return classes[first];
  }
}
