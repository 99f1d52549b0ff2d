// Links the models before and after this one, which `../models.js` lists; without it, the page has
// only its link to all models.
if (typeof models !== "undefined") {
  const at = models.indexOf(document.title);
  for (const [name, label] of [[models[at - 1], "Previous"], [models[at + 1], "Next"]]) {
    if (at < 0 || name === undefined) continue;
    const link = document.createElement("a");
    link.href = `${name}.html`;
    link.textContent = `${label}: ${name}`;
    document.querySelector(".neighbours").append(link);
  }
}
