// An old-fashioned script, which tells of the modules that did not load.
addEventListener('error', function (event) {
  if (event.target.tagName !== 'SCRIPT') return;
  var text = location.protocol === 'file:'
    ? 'Browsers run this page from a web server only. Serve its folder: python -m http.server'
    : 'A part of this page did not load: reload it. If that does not help, your browser may be too old.';
  document.querySelectorAll('.answer, [role=status]').forEach(function (element) {
    element.textContent = text;
  });
}, true);
