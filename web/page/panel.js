import {decode} from './image.js';
import {describe, Problem} from './problem.js';

export const formatPercent = (part) => `${(100 * part).toFixed(1)} %`;

/** Content of a template of the page. */
export const copyTemplate = (id) => document.getElementById(id).content.cloneNode(true).firstElementChild;

/** A tab's panel: takes photographs, and shows what its network says of them. */
export class Panel {
  #turn = 0;
  #loading = null;
  #load;

  /**
   * @param {HTMLElement} element
   * @param {() => Promise<object>} load Loads the network.
   */
  constructor(element, load) {
    this.element = element;
    this.#load = load;
    const input = this.find('input[type=file]');
    input.addEventListener('change', () => {
      this.take([...input.files]);
      input.value = ''; // so that the same file can be chosen again
    });
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** The network, loaded once; after a failure it is tried again. */
  async ready() {
    this.#loading ??= this.#load();
    try {
      this.network = await this.#loading;
    } catch (error) {
      this.#loading = null;
      throw error;
    }
    if (!this.find('.samples').children.length) this.#introduce(this.network.settings);
    return this.network;
  }

  /** Do something that shows an answer, unless something newer has begun meanwhile. What fails is told on the page. */
  async attempt(work) {
    const turn = ++this.#turn;
    const isCurrent = () => turn === this.#turn;
    try {
      await work(isCurrent);
    } catch (error) {
      if (isCurrent()) this.#fail(error);
    }
  }

  /** Show the first sample. */
  open() {
    return this.attempt(async (isCurrent) => {
      const {settings: {samples: [sample]}} = await this.ready();
      if (!sample) return this.say('Ready: choose a photograph.');
      if (isCurrent()) await this.#takeSample(sample);
    });
  }

  /** Take files that were chosen or dropped. */
  take(files) {
    return this.attempt(async (isCurrent) => {
      if (!files.length) throw new Problem('That was not a file. Save the photograph, then choose it or drop it here.');
      const note = files.length > 1 ? `One photograph at a time: this is the first of ${files.length} files.` : '';
      await this.#look(files[0], files[0].name, isCurrent, note);
    });
  }

  #takeSample({file, name}) {
    return this.attempt(async (isCurrent) => {
      const response = await fetch(file).catch(() => null);
      if (!response?.ok) throw new Problem(`The sample ${name} did not load: is there a connection?`);
      await this.#look(await response.blob(), name, isCurrent);
    });
  }

  async #look(blob, name, isCurrent, note = '') {
    const [network, bitmap] = await Promise.all([this.ready(), decode(blob, name)]);
    if (!isCurrent()) return bitmap.close();
    this.close();
    await this.show(network, bitmap, name);
    this.find('.note').textContent = note;
    this.say(`${name}: ${this.sentence} ${note}`);
  }

  /** Say what network this is, and offer its samples. */
  #introduce({about, samples}) {
    this.find('.about').textContent = about;
    this.find('.samples').replaceChildren(...samples.map((sample) => {
      const item = copyTemplate('sample');
      const image = item.querySelector('img');
      image.src = sample.file;
      image.alt = sample.name;
      item.querySelector('button').addEventListener('click', () => this.#takeSample(sample));
      return item;
    }));
  }

  /** Say something to a screen reader. */
  say(text) {
    this.find('[role=status]').textContent = text;
  }

  /** Show an answer: its main word, and the rest of its sentence. */
  answer(word, rest) {
    const strong = document.createElement('strong');
    strong.textContent = word;
    this.find('.answer').replaceChildren(strong, ` ${rest}`);
    this.element.dataset.state = 'answered';
    this.sentence = `${word} ${rest}.`;
  }

  /** Say what the answer took. */
  time({preparing, running}) {
    const times = {'network loaded': this.network.milliseconds, 'image prepared': preparing, 'network ran': running};
    this.find('.times').textContent = Object.entries(times)
      .map(([what, ms]) => `${what} in ${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`).join(' · ');
  }

  #fail(error) {
    this.close();
    const text = describe(error);
    this.find('.answer').textContent = text;
    this.find('.note').textContent = '';
    this.element.dataset.state = 'failed';
    this.say(text);
  }

  /** Give back what the panel holds, such as the camera. */
  close() {}
}
