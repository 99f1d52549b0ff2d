// Makes the columns of tables sortable; without it they are plain tables.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.firstChild.textContent.trim();
    // With what stands small below it: two columns are "Published".
    const small = header.querySelector("small");
    const name = button.textContent + (small ? ` (${small.textContent})` : "");
    button.setAttribute("aria-label", name);
    header.firstChild.replaceWith(button);
    button.addEventListener("click", () => {
      const body = table.tBodies[0];
      const values = new Map([...body.rows].map((row) => {
        const cell = row.cells[column];
        return [row, cell.dataset.value ?? cell.textContent.trim()];
      }));
      const filled = [...values.values()].filter((value) => value !== "");
      const numeric = filled.every((value) => !Number.isNaN(Number(value)));
      const before = header.getAttribute("aria-sort");
      // The first click brings up what is most interesting: high numbers, or the start of names.
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const order = before === first ? second : first;
      const sign = order === "ascending" ? 1 : -1;
      const compare = (a, b) => numeric ? a - b : a.localeCompare(b, "en", {numeric: true});
      const sorted = [...body.rows].sort((a, b) => {
        const [left, right] = [values.get(a), values.get(b)];
        // What is not known comes last, whichever way.
        if (left === "" || right === "") return (left === "") - (right === "");
        return sign * compare(left, right);
      });
      body.append(...sorted);
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", order);
      document.getElementById("sorted").textContent = `Sorted by ${name}, ${order}.`;
    });
  });
}
