// A browser starts no worker for a page that was opened from disk: there, the search runs in a frame of the page.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.onmessage = this.onerror = null;
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      inside.postMessage = (said) => {
        const data = structuredClone(said); // as between a page and a worker: neither sees what the other changes later
        setTimeout(() => this.onmessage?.({ data }));
      };
      const script = inside.document.createElement("script");
      script.src = url;
      script.onload = () => {
        this.waiting.forEach((data) => this.hand(data));
        this.waiting = null;
      };
      script.onerror = () => this.onerror?.(new Event("error"));
      inside.document.head.append(script);
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.hand(data);
    }

    hand(said) {
      const inside = this.frame.contentWindow;
      const data = structuredClone(said);
      setTimeout(() => inside?.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
