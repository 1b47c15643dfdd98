import {Classifier} from './classifier.js';
import {Detector} from './detector.js';

const panels = {
  classifier: new Classifier(document.getElementById('classifier')),
  detector: new Detector(document.getElementById('detector')),
};
const tabs = [...document.querySelectorAll('[role=tab]')];
const opened = {};
let current;

/** Show the panel of a tab, and its first sample if it is shown for the first time. */
function choose(tab) {
  panels[current]?.close();
  current = tab.getAttribute('aria-controls');
  for (const other of tabs) {
    other.setAttribute('aria-selected', other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    document.getElementById(other.getAttribute('aria-controls')).hidden = other !== tab;
  }
  opened[current] ??= panels[current].open();
  return opened[current];
}

for (const [i, tab] of tabs.entries()) {
  tab.addEventListener('click', () => choose(tab));
  tab.addEventListener('keydown', ({key}) => {
    const next = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: -1}[key];
    if (next === undefined) return;
    const other = tabs.at(next % tabs.length);
    other.focus();
    choose(other);
  });
}

// anywhere on the page, or the browser would leave it to show the file
addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('dragging');
});
addEventListener('dragleave', ({relatedTarget}) => relatedTarget ?? document.body.classList.remove('dragging'));
addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dragging');
  panels[current].take([...event.dataTransfer.files]);
});

await choose(tabs[0]);
if (panels.classifier.sentence) {
  document.getElementById('first').textContent = `First answer ${(performance.now() / 1000).toFixed(2)} s after opening.`;
}

// after the answer, so that it does not have to wait for the files that only the next visit needs
if ('serviceWorker' in navigator) {
  try {
    await navigator.serviceWorker.register('./sw.js');
    await navigator.serviceWorker.ready;
    document.getElementById('offline').textContent = 'Saved: this page now works without a connection.';
  } catch (error) {
    console.warn('The page is not saved for use without a connection:', error); // a private window, or no https
  }
}
