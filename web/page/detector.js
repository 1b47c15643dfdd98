import {prepare, showImage} from './image.js';
import {loadNetwork} from './network.js';
import {copyTemplate, formatPercent, Panel} from './panel.js';

// of the same lightness, so that dark text can be read on each of them
const COLORS = ['#5eead4', '#fdba74', '#93c5fd', '#f9a8d4', '#bef264', '#c4b5fd', '#fcd34d', '#a5f3fc'];
const INK = '#1f2933';

/** Boxes in a photograph, in its pixels, the highest score first, and what they took. */
export async function detect(network, source) {
  const {size, classes} = network.settings;
  const start = performance.now();
  const {input} = prepare(source, network.settings);
  const prepared = performance.now();
  const {boxes, scores, labels} = await network.run(input);
  const ran = performance.now();
  const [x, y] = [source.width / size, source.height / size];
  const found = Array.from(scores.data, (score, i) => {
    const [left, top, right, bottom] = boxes.data.subarray(4 * i, 4 * i + 4);
    const label = Number(labels.data[i]) - 1; // 0 is the background
    return {name: classes[label], color: COLORS[label % COLORS.length], score, box: [left * x, top * y, right * x, bottom * y]};
  });
  return {found, preparing: prepared - start, running: ran - prepared};
}

/** Draws boxes around what is in a photograph. */
export class Detector extends Panel {
  #bitmap = null;
  #found = [];

  constructor(element) {
    super(element, () => loadNetwork('detector'));
    const slider = this.find('input[type=range]');
    slider.addEventListener('input', () => this.#draw());
    slider.addEventListener('change', () => this.say(this.sentence));
  }

  async show(network, bitmap, name) {
    const {found, preparing, running} = await detect(network, bitmap);
    this.#bitmap?.close();
    this.#bitmap = bitmap; // which is drawn again whenever the slider moves
    this.#found = found;
    this.find('.photograph').setAttribute('aria-label', `${name}, with boxes`);
    this.#draw();
    this.time({preparing, running});
  }

  /** Draw the boxes that score enough, and list them. */
  #draw() {
    const threshold = Number(this.find('input[type=range]').value);
    this.find('output').textContent = threshold.toFixed(2);
    if (!this.#bitmap) return;
    const shown = this.#found.filter(({score}) => score >= threshold);
    const canvas = this.find('.photograph');
    const scale = showImage(canvas, this.#bitmap);
    const context = canvas.getContext('2d');
    const unit = Math.max(canvas.width, canvas.height) / 320;
    context.font = `600 ${9 * unit}px system-ui, sans-serif`;
    context.textBaseline = 'top';
    for (const {name, color, score, box} of [...shown].reverse()) { // the highest score on top
      const [left, top, right, bottom] = box.map((n) => n * scale);
      for (const [style, width] of [[INK, 2], [color, 1.25]]) { // a dark edge, to be seen on every photograph
        context.strokeStyle = style;
        context.lineWidth = width * unit;
        context.strokeRect(left, top, right - left, bottom - top);
      }
      context.fillStyle = color;
      const text = `${name} ${Math.round(100 * score)}`;
      const width = context.measureText(text).width + 4 * unit;
      const x = Math.max(0, Math.min(left, canvas.width - width));
      const y = top > 12 * unit ? top - 11.5 * unit : top;
      context.fillRect(x - context.lineWidth / 2, y, width, 11.5 * unit);
      context.fillStyle = INK;
      context.fillText(text, x + 1.5 * unit, y + 1.5 * unit);
    }
    this.find('.found').replaceChildren(...shown.map(({name, color, score, box: [left, top, right, bottom]}) => {
      const item = copyTemplate('box');
      const [mark, label, percent, place] = item.children;
      mark.style.setProperty('--color', color);
      label.textContent = name;
      percent.textContent = formatPercent(score);
      place.textContent = `${Math.round(left)}, ${Math.round(top)} to ${Math.round(right)}, ${Math.round(bottom)}`;
      return item;
    }));
    const counts = this.network.settings.classes
      .map((name) => [shown.filter((one) => one.name === name).length, name]).filter(([count]) => count);
    if (counts.length) this.answer(counts.map((pair) => pair.join(' ')).join(', '), 'found');
    else this.answer('nothing', 'found with this score: try a lower one');
  }
}
