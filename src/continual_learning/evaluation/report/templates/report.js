(() => {
  "use strict";
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  for (const table of $$("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    const key = (row, column) => row.cells[column].dataset.value ?? "";
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const first = head.dataset.first ?? "ascending";
        const down = (now ? (now === "ascending" ? "descending" : "ascending") : first) === "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].sort((one, two) => {
          const a = key(one, column), b = key(two, column);
          if (a === "" || b === "") return (a === "") - (b === "");
          const order = head.classList.contains("number") ? a - b : a.localeCompare(b);
          return down ? -order : order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  const answers = document.getElementById("answers");
  if (answers) {
    const documents = $$("details.document", answers);
    const fold = answers.querySelector("[data-control=fold]");
    const filter = answers.querySelector("[data-control=differ]");
    const name = () => { fold.textContent = documents.every((d) => d.open) ? "Close all documents" : "Open all documents"; };
    answers.querySelector(".controls").hidden = false;
    filter?.addEventListener("change", () => answers.classList.toggle("only-differing", filter.checked));
    fold.addEventListener("click", () => {
      const open = !documents.every((d) => d.open);
      documents.forEach((d) => { d.open = open; });
    });
    answers.addEventListener("toggle", name, true);
    name();
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = $$("details.printed:not([open])");
    opened.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach((d) => { d.open = false; }));

  document.documentElement.dataset.ready = "true";
})();
