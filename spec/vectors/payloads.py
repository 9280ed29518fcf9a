"""Compressed payloads as constants, for codecs that the standard library does not have.

Brotli streams: brotli 1.x, quality 11 (TEXT: 9), with the window of the name. ZSTD_TEXT: libzstd, level 9,
content size on, checksum off: a frame with Huffman and FSE coded blocks.
"""
import base64

LETTERS = b"A" * 200
TEXT = " ".join(f"layer {i} weight {i * i % 97} bias {i * 7 % 13};" for i in range(60)).encode()

ZSTD_TEXT = base64.b64decode(
    "KLUv/WBNBR0JABLNHhawp9ABh400GotMDY44KaVMKaXjlzgYhbF66TXy3+/5fbzcIX/GNeLT7ZpGszN5WKQqRN30lU7eIpetzxKtw9EX"
    "aXzoEvZcmXYpxZ4cx6zda5StI6cy47tRWWjlqVTqPGWm6szZRGEIA8MAgBjiQCBg4IAghig4JBgIAoCBqHFkfv83MEMJhNoBEWgIq01M"
    "a3sGO7C2gHzP8UMaMumNLa1LXMzLj4Z+s5G+o9p3fPoTGYMiF5N/CAmAMHNUdnW1Mhp1IP/TsqWAoBBKRkvRYhduBGBpZKnH+ggpditB"
    "hGUIGewYAX0FCNnrCAF1hQd56+gAZUUcJKx55x68gwrMPeqt4AAGmAGlY1hqs+7Hjm6/AJ92gcJtth+y1V7MRgz4Kg==")
BROTLI_TEXT = base64.b64decode(
    "gskAgFh1ZKQLOP3NUzFK7Pig/zoYyM1LArTgSddK1GTQRDcfd0IMTHUkD13OZETPp6Hi1tL71XvYv1fv9/f9f/V5N4OFTLgcROuy8RO9"
    "wuTK5NJbv4sy2/8F+s7u7i/O7d0SaB2MYemSrgf32+4PjOI+Kw2WDgfbmijAhAJas4B2EWCSQJsSRkFhWSSMXgs1W4gegGUWEDsDsZSQ"
    "aQNjHRDGAcV2QVgMykyQtgfK3IcYaYqIGUM+5NQccmow5gVjohjDgvn6gcDXeKcYYxtw5vlGYG0ijo5U3/2qqad+oEE3RcM9FI12Xi0e"
    "V/NbMmNNv5mqmfdZNHsKiubOzgv1AQ==")
BROTLI_LETTERS_10 = base64.b64decode("oTgGwC8RFIsFAgE=")
BROTLI_LETTERS_16 = base64.b64decode("4hgAv0RQLBYIBAA=")
BROTLI_LETTERS_17 = base64.b64decode("gTgGwC8RFIsFAgE=")
BROTLI_LETTERS_22 = base64.b64decode("G8cA+CWCYrFAIAA=")
BROTLI_201_LETTERS = base64.b64decode("AhkAv0RQLBYICAA=")
BROTLI_199_LETTERS = base64.b64decode("whgAv0RQSBYG/A==")
BROTLI_128K_17 = base64.b64decode("gfr/D/wSQfFYIJB7HwA=")
BROTLI_128K_18 = base64.b64decode("U///gV8iKB4LBHLvAwA=")
