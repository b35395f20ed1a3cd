"use strict";
// Search in long tables: a row stays when it has every word. Without this script every row is there.
for (const field of document.querySelectorAll("input[data-search]")) {
  const rows = [...document.getElementById(field.dataset.search).rows].map((row) => [row, row.textContent.toLowerCase()]);
  const found = document.getElementById(field.id.replace("-search", "-found"));
  const look = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    found.textContent = words.length ? `${shown} of ${rows.length}` : "";
  };
  field.addEventListener("input", look);
  look(); // a browser that comes back to the page has kept what was typed
}
