// f32 logits, class-last, with classes, stride and base all multiples of eight: 32 bytes as four words of 64 bits, which
// are two blocks of four classes. For CPUs: a driver that walks over its invocations for each load walks half as often.

alias LogitWord = Eight;

fn first_class(lane: u32) -> u32 {
    return lane * 8u;
}
