package testenv

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
)

// forwarderDLL returns a 64-bit Windows DLL called name whose one export leads
// on to target, "OTHER.Function". It holds no code: Wine 8 lacks the
// bcryptprimitives.dll without which a Go program does not start, and the one
// function that Go wants from it exists elsewhere under another name. A test
// fixture only, never to be shipped.
func forwarderDLL(name, export, target string) []byte {
	const (
		fileAlign, sectionAlign = 0x200, 0x1000
		peOffset                = 0x40 // right behind the DOS header
		amd64                   = pe.IMAGE_FILE_MACHINE_AMD64
	)
	section := exportSection(sectionAlign, name, export, target)

	var out bytes.Buffer
	put := func(v any) { binary.Write(&out, binary.LittleEndian, v) }
	dos := [peOffset]byte{'M', 'Z'}
	dos[0x3c] = peOffset
	put(dos)
	put([]byte("PE\x00\x00"))
	put(pe.FileHeader{
		Machine: amd64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(pe.OptionalHeader64{})),
		Characteristics: pe.IMAGE_FILE_EXECUTABLE_IMAGE | pe.IMAGE_FILE_LARGE_ADDRESS_AWARE | pe.IMAGE_FILE_DLL,
	})
	header := pe.OptionalHeader64{
		Magic: 0x20b, ImageBase: 0x180000000, SectionAlignment: sectionAlign, FileAlignment: fileAlign,
		MajorOperatingSystemVersion: 6, MajorSubsystemVersion: 6, Subsystem: pe.IMAGE_SUBSYSTEM_WINDOWS_CUI,
		SizeOfInitializedData: fileAlign, SizeOfImage: 2 * sectionAlign, SizeOfHeaders: fileAlign,
		NumberOfRvaAndSizes: 16,
	}
	header.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT] = pe.DataDirectory{VirtualAddress: sectionAlign, Size: uint32(len(section))}
	put(header)
	put(pe.SectionHeader32{
		Name: [8]byte{'.', 'e', 'd', 'a', 't', 'a'}, VirtualSize: uint32(len(section)), VirtualAddress: sectionAlign,
		SizeOfRawData: fileAlign, PointerToRawData: fileAlign,
		Characteristics: pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ,
	})
	out.Write(make([]byte, fileAlign-out.Len()))
	out.Write(section)
	out.Write(make([]byte, 2*fileAlign-out.Len()))
	return out.Bytes()
}

// exportSection lays an export directory out for address rva. A function whose
// address lies inside the directory is a forwarder: its target's name.
func exportSection(rva uint32, name, export, target string) []byte {
	type directory struct {
		_, _, _                               uint32 // characteristics, time stamp, version
		Name, Base, Functions, Names          uint32
		FunctionTable, NameTable, NumberTable uint32
		Function, ExportName                  uint32 // the tables, one entry each
		Number                                uint16
	}
	strings := rva + uint32(binary.Size(directory{}))
	exportAt := strings + uint32(len(name)) + 1
	targetAt := exportAt + uint32(len(export)) + 1
	var out bytes.Buffer
	binary.Write(&out, binary.LittleEndian, directory{
		Name: strings, Base: 1, Functions: 1, Names: 1,
		FunctionTable: rva + 40, NameTable: rva + 44, NumberTable: rva + 48,
		Function: targetAt, ExportName: exportAt,
	})
	for _, s := range []string{name, export, target} {
		out.WriteString(s + "\x00")
	}
	return out.Bytes()
}
