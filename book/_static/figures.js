// A figure that scrolls sideways can be reached with the keyboard;
// page.css tells the reader of it.
(() => {
  const reach = () => {
    for (const frame of document.querySelectorAll(".wide-figure")) {
      if (frame.scrollWidth > frame.clientWidth) frame.tabIndex = 0;
      else frame.removeAttribute("tabindex");
    }
  };
  for (const event of ["load", "resize"]) addEventListener(event, reach);
})();
