/* page.c - the web page, built into the program: one file to deploy, no path to configure. */
#include "services/lora-gateway/desk.h"

/* The assembler puts the file's bytes between the two names. */
__asm__(".section .rodata\n"
        "gateway_page_start:\n"
        ".incbin \"deploy/web/index.html\"\n"
        "gateway_page_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const uint8_t gateway_page_start[] __attribute__((visibility("hidden")));
extern const uint8_t gateway_page_end[] __attribute__((visibility("hidden")));

struct bytes page_html(void)
{
    /* cppcheck-suppress comparePointers ; both ends of one object, which the assembler made */
    return bytes_of(gateway_page_start, (size_t)(gateway_page_end - gateway_page_start));
}
