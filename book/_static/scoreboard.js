/* The filters of the scoreboard. Every page loads this; one has the form. */
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("claims-filter");
  if (!form) {
    return;
  }
  const part = (name) => document.getElementById(`claims-${name}`);
  const tables = [...document.querySelectorAll("table.claims")];
  const asked = new URLSearchParams(window.location.search);
  const names = ["words", "chapter", "verdict"];

  function show() {
    const words = part("words").value.toLowerCase().split(/\s+/);
    const verdict = part("verdict").value;
    const chapter = part("chapter").value;
    let shown = 0;
    let all = 0;
    for (const table of tables) {
      let here = 0;
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        const fits =
          (!chapter || table.dataset.chapter === chapter) &&
          (!verdict || row.dataset.verdict === verdict) &&
          (!part("paper").checked || row.dataset.paper) &&
          words.every((word) => text.includes(word));
        row.hidden = !fits;
        here += fits ? 1 : 0;
        all += 1;
      }
      table.closest("section").hidden = here === 0;
      shown += here;
    }
    part("count").textContent = `${shown} of ${all} claims shown`;
  }

  function remember() {
    const now = new URLSearchParams();
    for (const name of names) {
      if (part(name).value) {
        now.set(name, part(name).value);
      }
    }
    if (part("paper").checked) {
      now.set("paper", "1");
    }
    const query = now.toString();
    const { pathname, hash } = window.location;
    const place = pathname + (query ? `?${query}` : "") + hash;
    window.history.replaceState(null, "", place);
  }

  for (const name of names) {
    part(name).value = asked.get(name) || "";
  }
  part("paper").checked = asked.has("paper");
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    show();
    remember();
  });
  function clear() {
    for (const name of names) {
      part(name).value = "";
    }
    part("paper").checked = false;
    show();
    remember();
  }
  form.addEventListener("reset", (event) => {
    event.preventDefault(); /* it would bring back what the page began with */
    clear();
  });
  /* A link of the summary leads to a table, which must be there by then. */
  document.querySelectorAll("table.counts a").forEach((link) =>
    link.addEventListener("click", (event) => {
      const name = link.hash.slice(1);
      const table = tables.find((other) => other.dataset.chapter === name);
      clear();
      if (!table) {
        return; /* a chapter that broke off before its claims */
      }
      event.preventDefault();
      window.history.pushState(null, "", link.hash);
      const section = table.closest("section");
      section.scrollIntoView({ behavior: "instant" });
      section.querySelector("a").focus({ preventScroll: true });
    })
  );
  show();
});
